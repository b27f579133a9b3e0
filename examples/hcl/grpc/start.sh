# Builds the server and becomes it, so that it gets the signals itself. Until
# it listens the replica's health check fails, and no request comes.
set -eu
cd "${NOMAD_TASK_DIR:-local}"

# Nomad gives a task its agent's environment, which may hold no HOME.
export HOME="${HOME:-$PWD}"
# Where Go keeps what it has built. The replicas of a node share it, so that
# only the first takes long.
export GOCACHE="${GOCACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/go-build}"
export GOTOOLCHAIN=local GOWORK=off GOFLAGS= CGO_ENABLED=0

go=$(command -v go || echo /usr/local/go/bin/go)
echo "building with $("$go" version)"
"$go" build -o greeter .
exec ./greeter
