"""What the codes, words and statuses of provider errors mean, as data.

Owns one table of codes for each error dialect, one for all of them, and the rules for words.
Promises patterns whose time is linear in the text's length. Never reads a body.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from asyncsvc.errors import (
    AuthUnexplained,
    ConcurrencyLimited,
    ContentFiltered,
    ContextTooLong,
    GatewayUnavailable,
    ModelGone,
    ModelUnexplained,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooCostly,
    UpstreamAuth,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamUnsupported,
)

Kind = type[ProviderError]
Kinds = Mapping[str, Kind]
UNKNOWN = 0
"""The status of an error inside a stream that has none: all rules for words apply."""


def _each(kind: Kind, codes: str) -> dict[str, Kind]:
    return dict.fromkeys(codes.split(), kind)


EVERYBODY: Kinds = {
    **_each(
        QuotaExhausted,
        "insufficient_quota billing_hard_limit_reached exceeded_current_quota_error "
        "insufficient_user_quota pre_consume_token_quota_failed billing_not_active "
        "quota_exceeded usage_limit_reached",
    ),
    **_each(
        ContextTooLong,
        "context_length_exceeded exceed_context_size_error string_above_max_length "
        "request_too_large",
    ),
    **_each(
        ContentFiltered,
        "content_filter content_policy_violation responsibleaipolicyviolation "
        "sensitive_words_detected",
    ),
    **_each(ModelGone, "model_not_found model_not_exist deploymentnotfound"),
    **_each(
        UpstreamAuth,
        "invalid_api_key authentication_error api_key_invalid account_deactivated "
        "account_suspended invalid_authentication_error",
    ),
    **_each(
        RateLimited,
        "rate_limit_exceeded rate_limit_error rate_limited resource_exhausted "
        "too_many_requests rate_limit",
    ),
    **_each(UpstreamOverloaded, "overloaded_error engine_overloaded_error"),
    # MiniMax, `base_resp.status_code`.
    **{f"base_resp {code}": RateLimited for code in (1002, 1039, 2045, 2056)},
    **{f"base_resp {code}": UpstreamAuth for code in (1004, 2049)},
    **{f"base_resp {code}": QuotaExhausted for code in (1008,)},
    **{f"base_resp {code}": ContentFiltered for code in (1026, 1027)},
    **{f"base_resp {code}": UpstreamOverloaded for code in (1000, 1001, 1013, 1033)},
    **{f"base_resp {code}": UpstreamRejected for code in (2013,)},
    # Baidu, `error_code`.
    **{f"error_code {code}": RateLimited for code in (4, 18, 336501, 336502)},
    **{f"error_code {code}": QuotaExhausted for code in (17, 19)},
    **{f"error_code {code}": UpstreamAuth for code in (13, 14, 110, 111)},
    **{f"error_code {code}": UpstreamOverloaded for code in (1, 2, 336000, 336100)},
    **{f"error_code {code}": ContextTooLong for code in (336007, 336103)},
}
"""Codes in small letters that mean the same wherever they come from."""
_NUMBERED: Mapping[str, Kinds] = {
    # docs.bigmodel.cn, "api-code"; the codes come as strings, many of them with status 429.
    "zhipu": {
        **_each(UpstreamAuth, "1000 1001 1002 1003 1004 1110 1111 1112 1121 1220"),
        **_each(QuotaExhausted, "1113 1304 1308 1309 1310"),
        **_each(UpstreamRejected, "1210 1213 1214 1215"),
        # 1311 is a plan without that model: another id may be in the plan.
        **_each(ModelGone, "1211 1221 1222 1311"),
        **_each(UpstreamOverloaded, "1230 1234 1305 1312"),
        **_each(ContextTooLong, "1261"),
        **_each(ContentFiltered, "1301"),
        **_each(ConcurrencyLimited, "1302"),
        **_each(RateLimited, "1303 1313"),
    },
    # The native SDK's names; what the compatible endpoint sends is not documented.
    "hunyuan": {
        **_each(ConcurrencyLimited, "FailedOperation.EngineServerLimitExceeded"),
        **_each(
            UpstreamOverloaded,
            "FailedOperation.EngineRequestTimeout FailedOperation.EngineServerError",
        ),
        **_each(RateLimited, "RequestLimitExceeded"),
        **_each(
            QuotaExhausted,
            "LimitExceeded FailedOperation.FreeResourcePackExhausted "
            "FailedOperation.ResourcePackExhausted FailedOperation.ServiceStopArrears",
        ),
        **_each(UpstreamAuth, "FailedOperation.ServiceNotActivated AuthFailure"),
    },
    # cloud.tencent.com/document/product/1823/131595
    "tokenhub": {
        **_each(UpstreamAuth, "401001 401002 401003"),
        **_each(QuotaExhausted, "401007 401008 403004 FREE_QUOTA_EXHAUSTED"),
        **_each(RateLimited, "429001 429002"),
        **_each(ContentFiltered, "451001"),
        **_each(UpstreamOverloaded, "502001 503001"),
    },
    # docs.siliconflow.cn, "error-code"; its rate limits have no code, only status and text.
    "siliconflow": {
        **_each(ModelGone, "20012"),
        **_each(UpstreamOverloaded, "50603 50508 50501 50505"),
        **_each(QuotaExhausted, "30001"),
    },
}
DIALECTS: Mapping[str, Kinds] = {
    "openai": {},
    "nvidia": {},
    "openrouter": {},
    **_NUMBERED,
    # Here insufficient_quota means tokens a minute, not money [help.aliyun.com,
    # model-studio/error-code, token-limit].
    "dashscope": {
        **_each(
            RateLimited,
            "Throttling Throttling.RateQuota Throttling.AllocationQuota insufficient_quota "
            "limit_requests",
        ),
        **_each(QuotaExhausted, "Arrearage AllocationQuota.FreeTierOnly"),
        **_each(ContentFiltered, "DataInspectionFailed data_inspection_failed"),
        **_each(UpstreamAuth, "InvalidApiKey"),
    },
    "openclaw": {
        **_each(GatewayUnavailable, "gateway_unavailable service_unavailable"),
        **_each(UpstreamAuth, "unauthorized"),
        **_each(UpstreamOverloaded, "api_error server_error"),
    },
    # For a provider without a preset, which may be a proxy before any of these: their codes
    # do not overlap, and mean nothing else anywhere.
    "any": {code: kind for table in _NUMBERED.values() for code, kind in table.items()},
}
"""What a code means, by the table that a preset names."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Words that mean `kind` at these statuses."""

    kind: Kind
    statuses: frozenset[int]
    words: re.Pattern[str]


def _rule(kind: Kind, statuses: str, *words: str, known: bool = False) -> Rule:
    """`known`: the words mean that only together with one of the statuses."""
    found = {int(status) for status in statuses.split()} | ({UNKNOWN} if not known else set())
    return Rule(kind, frozenset(found), re.compile("|".join(words), re.IGNORECASE))


CONCURRENT = re.compile(r"concurren|并发", re.IGNORECASE)
TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)
LIMIT = re.compile(r"\blimit[: ]{1,3}(\d[\d,]{0,18})", re.IGNORECASE)
REQUESTED = re.compile(r"\brequested[: ]{1,3}(\d[\d,]{0,18})", re.IGNORECASE)
NO_CHANNEL = re.compile(r"no available channel|无可用渠道", re.IGNORECASE)
"""A relay has the model but no working provider behind it at the moment."""
_WRAPPED = "500 502 503"
"""The statuses that relays put around the answer of the provider behind them."""
TOO_LONG = _rule(
    ContextTooLong,
    f"400 413 422 {_WRAPPED}",
    r"context[ _-]?(?:length|window|size|limit)|maximum context|max_model_len|\bn_ctx\b",
    r"maximum model length|max(?:imum)? (?:input|sequence|prompt) (?:length|tokens)",
    r"\b(?:prompt|input|request|messages?|text) (?:is |are )?too (?:long|large|big)",
    r"\b(?:prompt|input|sequence|messages?) length\b[^\n]{0,30}?(?:exceed|greater|longer|over)",
    r"range of input length|input length (?:should|must|exceeds)",
    r"\btokens?(?: count)?\b[^\n]{0,40}?\bexceeds?\b|exceeds? [^\n]{0,40}?\btokens?\b",
    r"exceeded model token limit|too many (?:input |total )?tokens(?!, please wait)|too long for",
    r"reduce (?:the length|the number of|your (?:prompt|input|message))|decrease input length",
    r"shorten (?:your|the) (?:prompt|input|message)|`inputs` tokens",
    r"上下文(?:长度|窗口)|(?:输入|提示词)[^\n]{0,12}(?:过长|太长|超)|超[出过][^\n]{0,12}(?:长度|token)",
)
BY_TEXT: tuple[Rule, ...] = (
    _rule(
        RequestTooCostly,
        "400 402 403 429",
        r"fewer max_tokens|can only afford|requires? more credits",
    ),
    _rule(
        UpstreamUnsupported,
        "404",
        r"no endpoints? found (?:that|matching|which|with)\b|no allowed providers",
        r"(?:does not|doesn't|do not|not) support",
        known=True,
    ),
    _rule(UpstreamRejected, "400 422", r"^\W{0,3}max_(?:\w{1,11}_)?tokens\b(?!.{0,200}context)"),
    TOO_LONG,
    _rule(
        ContentFiltered,
        "400 403 422",
        r"content[ _-]?(?:policy|filter|management|moderation)|\bmoderation\b|\bflagged\b",
        r"safety (?:system|policy|filter|settings)|responsible ai|inappropriate content",
        r"sensitive (?:words?|content)|prohibited content|violat\w{1,9} [^\n]{0,40}polic",
        r"敏感|违规|不合规|不安全|审核",
    ),
    _rule(
        QuotaExhausted,
        f"400 402 403 429 {_WRAPPED}",
        r"insufficient[ _](?:account )?(?:quota|balance|credit|funds)|exceeded your current quota",
        r"(?:balance|credits?)\b[^\n]{0,20}(?:insufficient|too low|exhausted|not enough|used up)",
        r"not enough (?:credit|balance|quota|funds)|out of credits?|no credits? left",
        r"billing (?:hard )?limit|spend(?:ing)? limit|in arrears|payment required",
        r"余额不足|欠费|额度不足|额度已用",
    ),
    _rule(
        QuotaExhausted,
        "400 403",
        r"quota (?:is |has been )?(?:exceeded|exhausted)|key limit exceeded",
    ),
    _rule(
        RateLimited,
        f"400 403 {_WRAPPED}",
        r"too many requests|rate[ _-]?limit|\bqps\b|throttl|\b[rt]pm (?:limit|rate)",
        r"requests? (?:rate|frequency)|(?:请求|访问)(?:过于频繁|频率)|频率限制|限流|速率限制",
    ),
    _rule(
        UpstreamAuth,
        "400 401 403",
        r"\b(?:invalid|incorrect|wrong|expired|revoked|missing|unknown|no|bad)"
        r" (?:\S{1,20} ){0,2}?(?:x-)?(?:api|subscription|access|secret)[ _-]?keys?\b",
        r"\bapi[ _-]?key\b[^\n]{0,60}?\b(?:invalid|not valid|incorrect|expired|revoked|disabled"
        r"|not found|does not exist|missing|not active|leaked|blocked|suspended|required)\b",
        r"\b(?:provide|supply|include|check|set)\b[^\n]{0,30}\bapi[ _-]?key\b",
        r"\b(?:account|organi[sz]ation|workspace|subscription|consumer)\b[^\n]{0,60}?"
        r"\b(?:suspended|deactivated|disabled|terminated|banned|not found|does not exist|on hold"
        r"|locked|inactive|not active|closed)\b",
        r"无效的? ?(?:令牌|密钥|api)|(?:令牌|密钥|key)[^\n]{0,12}(?:无效|过期|不存在|不可用|禁用)",
        r"(?:用户|账[号户])[^\n]{0,8}(?:封禁|禁用|停用|冻结)",
    ),
    _rule(
        UpstreamAuth,
        "401 403",
        r"\b(?:invalid|incorrect|expired|revoked|no) (?:\S{1,20} ){0,2}?(?:tokens?|credentials?)\b",
        r"\b(?:token|credentials?) (?:\S{1,20} ){0,6}?(?:invalid|expired|revoked)\b",
        r"user not found|no such user|invalid authentication|authentication fails|身份验证失败",
        r"invalid username or password|未提供令牌",
        known=True,
    ),
    _rule(
        ModelGone,
        "400 401 403 404 410 422",
        r"not found for account|end of life|no endpoints? found for",
        r"\bmodel\b[^\n]{0,120}?\b(?:not found|(?:does |do |doesn't |did )?not exist|doesn't exist"
        r"|decommissioned|no longer (?:available|supported)|retired|has been removed)",
        r"\b(?:no such|unknown|invalid|unrecognized) model\b|not a valid model",
        r"do(?:es)? not have access to (?:the )?model|模型[^\n]{0,60}(?:不存在|未找到|已下线)",
    ),
    _rule(GatewayUnavailable, "503", r"gateway is temporarily unavailable"),
)
"""For providers that put the reason into the text only; the first rule that fits counts."""

BY_STATUS: dict[int, Kind] = {
    401: AuthUnexplained,
    402: QuotaExhausted,
    403: AuthUnexplained,
    404: ModelUnexplained,
    408: UpstreamOverloaded,
    409: UpstreamOverloaded,
    410: ModelGone,
    413: ContextTooLong,
    421: UpstreamOverloaded,
    425: UpstreamOverloaded,
    429: RateLimited,
    451: ContentFiltered,
    498: UpstreamOverloaded,
    499: UpstreamOverloaded,
}
UNEXPLAINED: Mapping[Kind, Kind] = {
    UpstreamAuth: AuthUnexplained,
    ModelGone: ModelUnexplained,
    QuotaExhausted: RateLimited,
}
"""What a body means that cannot speak of the account: an HTML page, a provider further behind."""
