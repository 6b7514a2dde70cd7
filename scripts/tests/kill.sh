#!/usr/bin/env bash
# kill -9 of the daemon in the middle of things: what was acknowledged is there after the next mount, without a repair.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
ROUNDS=${ROUNDS:-4}
scratch
source_tree "$WORK/source"
tar -C "$WORK/source" -cf "$WORK/source.tar" .
for round in $(seq "$ROUNDS"); do
    rm -rf "$DATA"
    mount_store
    (cd "$MNT" && exec stdbuf -oL tar -xvf "$WORK/source.tar") >"$WORK/printed" 2>/dev/null &
    tar_pid=$!
    sleep "0.$((RANDOM % 8 + 1))"
    # tar prints a name before it writes the file: all but the last one are finished. (It goes on printing after the kill.)
    head -n -1 "$WORK/printed" >"$WORK/finished"
    kill_daemon
    kill "$tar_pid" 2>/dev/null || true
    wait "$tar_pid" 2>/dev/null || true
    mount_store
    count=0
    while IFS= read -r name; do
        if [ -f "$WORK/source/$name" ]; then
            cmp -s "$WORK/source/$name" "$MNT/$name" || fail "round $round: $name is missing or wrong after kill -9"
            count=$((count + 1))
        fi
    done <"$WORK/finished"
    echo "round $round: $count files were finished, and are there"
    unmount_store
done

# rename over an existing file: the old content or the new one, never neither, never less than what was acknowledged.
for round in $(seq "$ROUNDS"); do
    rm -rf "$DATA"
    mount_store
    : >"$WORK/acknowledged"
    (cd "$MNT" && n=0 && while :; do
        n=$((n + 1))
        echo "$n" >new 2>/dev/null && mv new current 2>/dev/null || exit 0
        echo "$n" >>"$WORK/acknowledged"
    done) 2>/dev/null &
    loop_pid=$!
    sleep "0.$((RANDOM % 8 + 2))"
    kill_daemon
    kill "$loop_pid" 2>/dev/null || true
    wait "$loop_pid" 2>/dev/null || true
    mount_store
    last=$(tail -n 1 "$WORK/acknowledged")
    now=$(cat "$MNT/current")
    [ "$now" = "$last" ] || [ "$now" = $((last + 1)) ] || fail "round $round: $last was acknowledged, '$now' is there"
    echo "round $round: $last renames were acknowledged, $now is there"
    unmount_store
done
