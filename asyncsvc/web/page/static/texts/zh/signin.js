/** 登录页的文字。 */
export default {
  "signin.title": "这个服务需要令牌",
  "signin.token": "令牌",
  "signin.keep_tab": "保留到关闭这个标签页",
  "signin.keep_page": "保留到重新加载页面",
  "signin.submit": "登录",
  "signin.unknown": "这里不认识这个令牌（401）。",
  "signin.wait": "这里输错的次数太多。{seconds} 秒后再试。",
  "signin.hint": "{first} 里的一个，或 {second} 中你那一项的令牌。它只放在请求头里，从不出现在地址中。",
};
