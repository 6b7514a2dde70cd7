#!/usr/bin/env bash
# Ten writers at once in one database, in each journal mode: nothing is lost, nothing is broken, locks are locks.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need sqlite3 sqlite3
ROWS=${ROWS:-20}
scratch
mount_store
modes=(WAL DELETE TRUNCATE PERSIST)
for mode in "${modes[@]}"; do
    database=$MNT/$mode.db
    same "$mode is taken" "${mode,,}" "$(sqlite3 "$database" "pragma journal_mode=$mode;")"
    sqlite3 "$database" "create table t(writer int, n int, filler text); create table counter(n int); insert into counter values(0);"
    pids=()
    for writer in $(seq 10); do
        # The counter goes wrong when two are let in at the same time.
        (for n in $(seq "$ROWS"); do
            sqlite3 -cmd ".timeout 60000" "$database" \
                "begin immediate; insert into t values($writer, $n, hex(randomblob(300))); update counter set n = n + 1; commit;"
        done) &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || fail "$mode: a writer failed"; done
    same "$mode rows" $((10 * ROWS)) "$(sqlite3 "$database" 'select count(distinct writer * 1000000 + n) from t')"
    same "$mode counter" $((10 * ROWS)) "$(sqlite3 "$database" 'select n from counter')"
    same "$mode integrity" ok "$(sqlite3 "$database" 'pragma integrity_check')"
done
unmount_store
mount_store
for mode in "${modes[@]}"; do
    same "$mode integrity after a remount" ok "$(sqlite3 "$MNT/$mode.db" 'pragma integrity_check')"
    same "$mode rows after a remount" $((10 * ROWS)) "$(sqlite3 "$MNT/$mode.db" 'select n from counter')"
done
