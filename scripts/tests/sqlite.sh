#!/usr/bin/env bash
# Ten writers at once in one database, in each journal mode; nothing is lost, nothing is broken.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
mount_store
for mode in WAL DELETE; do
    database=$MNT/$mode.db
    sqlite3 "$database" "pragma journal_mode=$mode; create table t(writer int, n int);" >/dev/null
    pids=()
    for writer in $(seq 10); do
        (for n in $(seq 20); do
            sqlite3 -cmd ".timeout 60000" "$database" "insert into t values($writer, $n);"
        done) &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
    same "$mode rows" 200 "$(sqlite3 "$database" 'select count(*) from t')"
    same "$mode integrity" ok "$(sqlite3 "$database" 'pragma integrity_check')"
done
unmount_store
mount_store
for mode in WAL DELETE; do
    same "$mode after a remount" "ok 200" "$(sqlite3 "$MNT/$mode.db" 'pragma integrity_check; select count(*) from t' | tr '\n' ' ' | sed 's/ $//')"
done
