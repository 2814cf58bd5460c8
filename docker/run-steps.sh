#!/usr/bin/env bash
# Runs the steps of the Dockerfile in order, in fresh Debian roots and without a Docker engine, then uses what they made:
# fetches the embedded models, asks a question, starts the app and `serve`, and runs HEALTHCHECK's command. Needs root,
# debootstrap and util-linux, 8 GB of disk and five to ten minutes. What it is not: an image; see docs/docker.md.
#
#   docker/run-steps.sh [--pip-from-host] [--build-arg NAME=VALUE]... [--mirror URL]
#   docker/run-steps.sh --help
#
# All mounts are made in a mount namespace of its own, so that none outlives the script however it ends, and the folder is
# removed from outside of it, where a bind mount can't be followed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python3}

[ "$(id -u)" = 0 ] || { echo "run-steps: it makes a root folder and mounts, and so has to be run by root" >&2; exit 1; }
for program in debootstrap unshare; do
  command -v "$program" >/dev/null || { echo "run-steps: $program is missing: apt install debootstrap util-linux" >&2; exit 1; }
done

work=$(mktemp -d "${TMPDIR:-/tmp}/longleaf-steps.XXXXXX")
child=
clean_up() {
  # The end of `unshare` is the end of every process in its process namespace.
  if [ -n "$child" ]; then kill -KILL "$child" 2>/dev/null || true; wait "$child" 2>/dev/null || true; fi
  for _ in 1 2 3 4 5; do rm -rf --one-file-system "$work" 2>/dev/null && return; sleep 1; done
  echo "run-steps: $work could not be removed" >&2
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# BuildKit's parser and .dockerignore matcher, in Python.
"$PYTHON" -m venv "$work/tools"
"$work/tools/bin/pip" install -q --disable-pip-version-check e2b-dockerfile-utils==0.1.1

unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
  "$work/tools/bin/python" -uB "$here/steps.py" --work "$work" "$@" &
child=$!
code=0
wait "$child" || code=$?
child=
exit "$code"
