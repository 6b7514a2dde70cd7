#!/usr/bin/env bash
# scripts/run is all the set-up there is: from any directory, with relative paths, over a dead mount, one line of output.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
scratch
cd "$WORK"
output=$("$ROOT/scripts/run" data mnt 2>"$WORK/messages")
DAEMON=$(cat "$DATA/LOCK")
same "lines printed" 1 "$(wc -l <<<"$output")"
[[ $output == *"$MNT"* || $output == *mnt* ]] || fail "the line doesn't name the mountpoint: $output"
echo x >mnt/file
kill_daemon_only
"$ROOT/scripts/run" data mnt >/dev/null
DAEMON=$(cat "$DATA/LOCK")
same "run again after kill -9" x "$(cat mnt/file)"
if "$ROOT/scripts/run" data 2>/dev/null; then fail "no mountpoint, and no complaint"; fi
