/** Words of the sign-in. */
export default {
  "signin.title": "This service asks for a token",
  "signin.token": "Token",
  "signin.keep_tab": "Keep it until this tab is closed",
  "signin.keep_page": "Keep it until the page is loaded again",
  "signin.submit": "Sign in",
  "signin.unknown": "That token is not known here (401).",
  "signin.wait": "Too many wrong tokens came from here. Try again in {seconds} s.",
  "signin.hint": "One of {first}, or that of your entry in {second}. It is sent in a header, never in an address.",
};
