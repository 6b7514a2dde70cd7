#!/usr/bin/env bash
# kill -9 of the daemon in the middle of things: what was acknowledged is there after the next mount, without a repair. ROUNDS=20 for the
# long form.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
ROUNDS=${ROUNDS:-3}
scratch
# A moment between A and B hundredths of a second.
pause() { sleep "$(awk -v a="$1" -v b="$2" -v r="$RANDOM" 'BEGIN { print (a + (b - a) * r / 32767) / 100 }')"; }
# The kill must hit somebody at work; one who had only just been started would go on in the directory under the mount.
at_work() { # at_work FILE LINES
    for _ in $(seq 1000); do
        if [ -e "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ]; then return; fi
        sleep 0.01
    done
    fail "nothing happens: $1 has not $2 lines"
}

# 1. tar: what it said it had finished.
source_tree "$WORK/source"
tar -C "$WORK/source" -cf "$WORK/source.tar" .
checked=0
for round in $(seq "$ROUNDS"); do
    fresh
    mount_store --segment-size 4M
    : >"$WORK/printed"
    (cd "$MNT" && exec stdbuf -oL tar -xvf "$WORK/source.tar") >>"$WORK/printed" 2>/dev/null &
    tar_pid=$!
    at_work "$WORK/printed" 20
    pause 0 80
    # tar prints a name before it writes the file: all but the last one are finished. It would go on printing after the kill.
    head -n -1 "$WORK/printed" >"$WORK/finished"
    kill_daemon
    kill "$tar_pid" 2>/dev/null || true
    wait "$tar_pid" 2>/dev/null || true
    mount_store --segment-size 4M
    count=0
    while IFS= read -r name; do
        if [ -L "$WORK/source/$name" ]; then
            same "round $round: $name" "$(readlink "$WORK/source/$name")" "$(readlink "$MNT/$name")"
        elif [ -f "$WORK/source/$name" ]; then
            cmp -s "$WORK/source/$name" "$MNT/$name" || fail "round $round: $name is missing or wrong after kill -9"
            count=$((count + 1))
        else
            [ -d "$MNT/$name" ] || fail "round $round: the directory $name is missing after kill -9"
        fi
    done <"$WORK/finished"
    echo "tar, round $round: $count files were finished, and are there"
    checked=$((checked + count))
    same "health" ok "$(cat "$MNT/.bitkv/health")"
    same "errors" 0 "$(stat_of crc_errors)"
    unmount_store
done
[ "$checked" -ge $((ROUNDS * 20)) ] || fail "only $checked files in $ROUNDS rounds: the kill comes too early to prove anything"

# 2. rename over an existing file: the old content or the new one, never neither, never less than what was acknowledged.
checked=0
for round in $(seq "$ROUNDS"); do
    fresh
    mount_store
    echo 0 >"$WORK/acknowledged"
    python3 - "$MNT" "$WORK/acknowledged" <<'PY' &
import os, sys
os.chdir(sys.argv[1])
with open(sys.argv[2], "a", buffering=1) as acknowledged:
    n = 0
    try:
        while True:
            n += 1
            with open("new", "w") as f:
                f.write(f"{n}\n" * 500)
            os.rename("new", "current")
            print(n, file=acknowledged)
    except OSError:
        pass
PY
    loop=$!
    at_work "$WORK/acknowledged" 10
    pause 0 60
    kill_daemon
    wait "$loop" || fail "round $round: the renaming loop broke"
    mount_store
    last=$(tail -n 1 "$WORK/acknowledged")
    [ "$last" -gt 5 ] || fail "round $round: only $last renames before the kill"
    now=$(head -n 1 "$MNT/current")
    [ "$now" = "$last" ] || [ "$now" = $((last + 1)) ] || fail "round $round: $last was acknowledged, '$now' is there"
    same "round $round: whole content" "$(yes "$now" | head -n 500 | sha256sum)" "$(sha256sum <"$MNT/current")"
    echo "rename, round $round: $last were acknowledged, $now is there"
    unmount_store
done

# 3. Changes of all kinds by several writers: all that were acknowledged, and one moment. The store is not made anew: each round recovers
# what the rounds before have left, and none of that may change.
fresh
mount_store --segment-size 4M
for round in $(seq "$ROUNDS"); do
    before=$(tree_sum "$MNT")
    mkdir "$MNT/round$round"
    python3 "$HELPERS/history.py" write "$MNT/round$round" "$WORK/log$round" "$round" >/dev/null &
    writer=$!
    at_work "$WORK/log$round" 60
    pause 0 120
    kill_daemon
    wait "$writer" || fail "round $round: the writer broke"
    mount_store --segment-size 4M
    python3 "$HELPERS/history.py" check "$MNT/round$round" "$WORK/log$round" "$round" --acknowledged || fail "round $round: see above"
    mv "$MNT/round$round" "$WORK/aside$round" && same "earlier rounds" "$before" "$(tree_sum "$MNT")"
    mv "$WORK/aside$round" "$MNT/round$round"
done
unmount_store
