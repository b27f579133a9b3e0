#!/bin/sh
# Sends two waves of requests to nodes.hcl, each client its next one when the
# last is answered, and says how many were answered and how many were lost.
#
#   sh examples/hcl/nodes/waves.sh [url] [seconds for each step]
url=${1:-http://127.0.0.1:8000/nodes}
step=${2:-12}

answers=$(mktemp)
trap 'rm -f "$answers"' EXIT

client() {
  end=$(($(date +%s) + $1))
  while [ "$(date +%s)" -lt "$end" ]; do
    curl -s -o /dev/null -w '%{http_code}\n' "$url?sleep=0.5" >>"$answers"
  done
}

for clients in 2 6 12 16 16 6 2 0 0 0 0 0 4 10 10 4; do
  echo "$clients clients"
  i=0
  while [ "$i" -lt "$clients" ]; do
    client "$step" &
    i=$((i + 1))
  done
  sleep "$step"
  wait
done

all=$(wc -l <"$answers")
good=$(grep -c '^200$' "$answers")
echo "$all requests, $((all - good)) lost"
[ "$all" -eq "$good" ]
