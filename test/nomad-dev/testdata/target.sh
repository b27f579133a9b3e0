#!/bin/sh
# A target "exec" for tests: config.mode says how it misbehaves, and every call is
# a line of the file config.log.
echo "$1 ${SERVE_NODE:-}" >>"$SERVE_CONFIG_LOG"
case "$1 $SERVE_CONFIG_MODE" in
"launch hangs") exec sleep 3600 ;;
"launch garbage" | "list garbage") echo 'instance: {' ;;
"launch fails") echo "the quota is used up" >&2 && exit 3 ;;
"launch named") printf '{"instance": "%s"}' "$(hostname)" ;;
"list ghost") echo '{"instances": [{"id": "nobody-ordered-this"}]}' ;;
list*) exit 64 ;;
esac
