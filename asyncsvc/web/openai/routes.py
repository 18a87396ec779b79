"""The routes of OpenAI's API."""

from asyncsvc.web.http.resources import resource
from asyncsvc.web.openai import chat, completions, embeddings, models

ROUTES = [
    resource("/v1/chat/completions", POST=chat.completions),
    resource("/v1/completions", POST=completions.text_completions),
    resource("/v1/embeddings", POST=embeddings.embeddings),
    resource("/v1/models", GET=models.listing),
    resource("/v1/models/{model_id:path}", GET=models.show),
]
