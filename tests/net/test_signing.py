"""Signatures as Standard Webhooks defines them."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from asyncsvc.errors import SettingsError
from asyncsvc.net.signing import Signer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def signer(text: str) -> Signer:
    return Signer.of("SECRET", {"SECRET": text})


def test_the_published_example_is_signed_as_published() -> None:
    headers = signer(SECRET).headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(st.binary(min_size=24, max_size=64), st.text(), st.booleans(), st.booleans())
def test_the_receiver_s_library_agrees(key: bytes, body: str, prefix: bool, padded: bool) -> None:
    text = base64.b64encode(key).decode()
    text = ("whsec_" if prefix else "") + (text if padded else text.rstrip("="))
    now = int(datetime.now(UTC).timestamp())
    raw = body.encode("utf-8", "replace")
    headers = signer(text).headers("some-id-7", now, raw)
    Webhook(text).verify(raw, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(text).verify(raw + b" ", headers, json_parse=False)


def test_several_secrets_sign_side_by_side() -> None:
    now = int(datetime.now(UTC).timestamp())
    headers = signer(f" {SECRET}  {OTHER}\n").headers("id", now, b"{}")
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(b"{}", headers) == {}
    third = base64.b64encode(b"x" * 24).decode()
    with pytest.raises(WebhookVerificationError):
        Webhook(third).verify(b"{}", headers)


def test_no_secret_is_no_signer() -> None:
    assert not signer("")
    assert not signer("  ")
    assert not Signer.of("ELSE", {})
    assert signer(SECRET)


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        "whsec_",
        "whsec_!!!!",
        base64.b64encode(b"x" * 23).decode(),
        "a" * 33,
        "é" * 40,
        base64.b64encode(b"x" * 65).decode(),
    ],
)
def test_a_secret_that_no_library_could_read_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        signer(f"{SECRET} {text}")
    assert str(caught.value).startswith("SECRET: secret 2 must be 24 to 64 bytes in base64")
    assert text.removeprefix("whsec_")[:8] not in str(caught.value) or text == "whsec_"
