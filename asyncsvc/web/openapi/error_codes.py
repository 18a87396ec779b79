"""What each error code means and what to do, in words: of requests and of failed tasks."""

REQUEST_CODES = {
    "cancelled": "Of `/v1`: the task of the call was cancelled.",
    "content_filter": "Of `/v1`: the provider's filter has refused the text.",
    "context_length_exceeded": "Of `/v1`: the text is longer than the model takes.",
    "forbidden_host": "The `Host` header names another server. Use the address that the service "
    "prints, or name the host in `server.allowed_origins`.",
    "forbidden_origin": "A web page of another site has asked. Add its origin to "
    "`server.allowed_origins` where it may.",
    "forbidden_scope": "The token lacks the scope that the operation needs (`x-scope`).",
    "head_too_large": "The request's head is above 64 KiB. Send less in headers and URL.",
    "idempotency_conflict": "The same `Idempotency-Key` came with another body. Use a new key for "
    "another request.",
    "illegal_transition": "The task is not in a state that allows it, such as cancelling a "
    "finished one. Read the task, then decide.",
    "insufficient_quota": "Of `/v1`: the provider's account has no balance or quota left.",
    "invalid_http": "What came is no HTTP, or can be read in two ways.",
    "invalid_json": "The body is no JSON object.",
    "invalid_request": "A field or parameter is unknown or has a wrong value; `param` names it.",
    "method_not_allowed": "The path has no such method; `Allow` lists those it has.",
    "model_not_found": "The settings have no model of that name; `GET /models` lists them.",
    "no_model": "No model can take the task now, or not in time; `Retry-After` says when to come "
    "again.",
    "not_found": "There is nothing at that path or under that id.",
    "overloaded": "The service is near a limit of memory, disk, connections or subscriptions; "
    "`Retry-After` says when to come again.",
    "queue_full": "The queue, or the caller's share of it, is full; `Retry-After` says when to "
    "come again.",
    "rate_limit_exceeded": "Of `/v1`: the provider asked for fewer calls until the task's time was "
    "over.",
    "rate_limited": "The client has submitted as many tasks in a minute as it may.",
    "request_timeout": "Head or body came too slowly. Send the request again.",
    "sandbox_unavailable": "No program can be run safely on this machine; waiting does not help.",
    "shutting_down": "The service is stopping. Nothing was accepted; send it again in a while.",
    "task_not_found": "There is no task of that id, or it belongs to another client.",
    "task_too_large": "The body is above `queue.max_task_bytes`, or has too many values.",
    "too_many_attempts": "Too many wrong tokens came within a minute. The right one is taken.",
    "unauthorized": "No token came, or a wrong one. Send `Authorization: Bearer TOKEN`.",
    "unsupported_encoding": "The `Content-Encoding` is neither gzip nor deflate.",
}
"""Codes of `error.code` of a request that was refused; `/v1` has those of failed tasks, too."""
TASK_CODES = {
    "connect_timeout": "The provider could not be reached in time.",
    "content_filtered": "The provider's filter has refused the text.",
    "context_too_long": "The text is longer than the model takes. Use another model or less text.",
    "empty_answer": "The provider ended the answer without any text.",
    "expired": "The task waited in the queue for longer than `queue.ttl_s`.",
    "first_token_timeout": "The provider took the call and sent nothing in time.",
    "idle_timeout": "The answer stopped in the middle.",
    "internal": "A fault of the service; its log has more.",
    "interrupted_unknown": "A call was cut off and may have had an effect, so that it is not made "
    "again by itself.",
    "max_steps": "The agent has used up its steps or tokens, or repeats itself.",
    "model_gone": "The provider no longer has the model.",
    "overloaded": "The provider has too much to do.",
    "quota_exhausted": "The account has no balance or quota left.",
    "rate_limited": "The provider asked for fewer calls until the task's time was over.",
    "timeout": "The task took longer than its `timeout_s`.",
    "upstream_auth": "The provider refuses the key or the account. Check the key.",
    "upstream_disconnected": "The connection to the provider broke.",
    "upstream_invalid": "The provider's answer cannot be read.",
    "upstream_rejected": "The provider refuses the request; its words say why.",
    "upstream_too_large": "The answer was larger than the service takes.",
}
"""Codes of `error.code` of a task that failed."""
