#!/bin/sh
# Verify a callback that was received: whether it is signed with our secret.
#
# Start it: sh webhook.sh ID TIMESTAMP SIGNATURE <body
# with the headers webhook-id, webhook-timestamp and webhook-signature, the body exactly as it came, and
# ASYNCSVC_WEBHOOK_SECRET set as for the service. Needs openssl. Exit code 0: genuine.
set -eu
secret=${ASYNCSVC_WEBHOOK_SECRET%% *}
key=$(printf %s "${secret#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
wanted=$({
    printf '%s.%s.' "$1" "$2"
    cat
} | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
age=$(($(date +%s) - $2))
if [ "$age" -gt 300 ] || [ "$age" -lt -300 ]; then
    echo "too old, or from the future: a copy of a callback may be sent again" >&2
    exit 1
fi
for given in $3; do # one for each secret of the service
    if [ "$given" = "v1,$wanted" ]; then
        echo genuine
        exit 0
    fi
done
echo "not signed with our secret" >&2
exit 1
