#!/usr/bin/env bash
# Watching a mount: metrics, slow operations, operations as they end.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
scratch
mount_store --slowlog-threshold 1h
check_metrics() { python3 "$HELPERS/prometheus.py" <"$MNT/.bitkv/metrics" >"$WORK/metrics" || fail "metrics: $(cat "$MNT/.bitkv/metrics")"; }
metric() { awk -v name="$1" '$1 == name { print $2 }' "$WORK/metrics"; }

check_metrics
puts=$(metric 'bitkv_puts_total{}')
for i in $(seq 50); do echo "$i" >"$MNT/file$i"; done
sync "$MNT/file1"
check_metrics
[ "$(metric 'bitkv_puts_total{}')" -ge $((puts + 50)) ] || fail "puts don't count: $puts, $(metric 'bitkv_puts_total{}')"
same "files" 50 "$(metric 'bitkv_files{}')"
same "keys of all partitions" "$(stat_of keys)" "$(awk '/^bitkv_keys\{/ { sum += $2 } END { print sum }' "$WORK/metrics")"
[ "$(awk '/^bitkv_request_duration_seconds_count/ { sum += $2 } END { print sum }' "$WORK/metrics")" -ge 100 ] || fail "requests aren't counted"
[ "$(metric 'bitkv_sync_duration_seconds_count{}')" -ge 1 ] || fail "syncs aren't counted"
# The client's own parser, where it is installed.
if python3 -c 'import prometheus_client' 2>/dev/null; then
    python3 - "$MNT/.bitkv/metrics" <<'PY'
import sys
from prometheus_client.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(open(sys.argv[1]).read()))
assert len(families) > 40 and all(family.documentation for family in families), len(families)
PY
fi
for name in metrics slowlog; do same "permissions of $name" 400 "$(stat -c %a "$MNT/.bitkv/$name")"; done
same "permissions of accesslog" 600 "$(stat -c %a "$MNT/.bitkv/accesslog")"

# Slow operations. Nothing took an hour; then everything is slow.
same "lines of an empty slowlog" 1 "$(wc -l <"$MNT/.bitkv/slowlog")"
grep -qx 'slowlog-threshold=3600000000us' "$MNT/.bitkv/config" || fail "the threshold isn't shown: $(cat "$MNT/.bitkv/config")"
echo 'slowlog-threshold=1us' >"$MNT/.bitkv/config"
for i in $(seq 200); do echo "$i" >"$MNT/slow$i"; done
mv "$MNT/slow1" "$MNT/moved"
dd if=/dev/zero of="$MNT/synced" bs=64K count=4 conv=fsync status=none
cp "$MNT/.bitkv/slowlog" "$WORK/slowlog"
same "lines" 129 "$(wc -l <"$WORK/slowlog")"
grep -qP '^\d+\.\d{6}\trename\t1\tslow1\t' "$WORK/slowlog" || fail "no rename: $(tail -n 5 "$WORK/slowlog")"
grep -qP '\tsync\t' "$WORK/slowlog" || fail "no sync: $(tail -n 5 "$WORK/slowlog")"
python3 - "$WORK/slowlog" <<'PY'
import sys
header, *rows = [line.rstrip("\n").split("\t") for line in open(sys.argv[1])]
assert header[:7] == ["ended", "operation", "inode", "name", "offset", "length", "total_us"], header
for row in rows:
    row = dict(zip(header, row, strict=True))
    phases = [int(value) for name, value in row.items() if name.endswith("_us") and name != "total_us"]
    assert abs(int(row["total_us"]) - sum(phases)) <= len(phases), row
assert any(int(dict(zip(header, row))["sync_us"]) > 0 for row in rows), "no time in a sync"
assert {"write", "make"} <= {row[1] for row in rows}, {row[1] for row in rows}
PY
[ "$(stat_of slow_operations)" -ge 200 ] || fail "slow operations don't count"
echo 'slowlog-threshold=0' >"$MNT/.bitkv/config"
before=$(stat_of slow_operations)
echo x >"$MNT/fast"
same "zero switches it off" "$before" "$(stat_of slow_operations)"

# All operations, while somebody follows.
same "nothing is recorded by itself" 1 "$(wc -l <"$MNT/.bitkv/accesslog")"
"$BITKV" accesslog -f "$MNT" >"$WORK/accesslog" &
follower=$!
wait_for() { for _ in $(seq 200); do if grep -qP "$1" "$WORK/accesslog"; then return 0; fi; sleep 0.05; done; fail "never seen: $1 in $(tail -n 5 "$WORK/accesslog")"; }
for _ in $(seq 200); do
    touch "$MNT/begin"
    if grep -q begin "$WORK/accesslog"; then break; fi
    sleep 0.05
done
printf 'abc' >"$MNT/followed file"
wait_for '^\d+\t\d+\.\d{6}\tmake\t1\tfollowed file\t0\t0\t\d+$'
wait_for '^\d+\t\d+\.\d{6}\twrite\t\d+\t\t0\t3\t\d+$'
rm "$MNT/$(printf 'followed file')"
wait_for '\tunlink\t1\tfollowed file\t'
same "its header" "number	ended	operation	inode	name	offset	length	total_us" "$(head -n 1 "$WORK/accesslog")"
same "each once" "" "$(cut -f 1 "$WORK/accesslog" | sort | uniq -d)"
kill "$follower"
wait "$follower" 2>/dev/null || true
sleep 3.2
touch "$MNT/unseen"
sleep 0.1
same "recording ends with the last who follows" 1 "$(wc -l <"$MNT/.bitkv/accesslog")"
# A reader who has seen enough ends it.
(for i in $(seq 100); do touch "$MNT/busy$i" 2>/dev/null || break; sleep 0.02; done) &
timeout 30 "$BITKV" accesslog -f "$MNT" | head -n 3 >"$WORK/three" || true
same "three lines" 3 "$(wc -l <"$WORK/three")"
wait
refused "a wrong order" bash -c 'echo on >"$1"' - "$MNT/.bitkv/accesslog"
refused "accesslog of nothing" "$BITKV" accesslog -f "$WORK"
unmount_store
