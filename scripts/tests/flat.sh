#!/usr/bin/env bash
# Many keys in one flat directory: spread evenly, listed exactly once while others come and go; then half of them goes, and their space.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
KEYS=${KEYS:-100000}
scratch
mount_store --segment-size 8M
mkdir "$MNT/flat"
python3 - "$MNT/flat" "$KEYS" <<'PY'
import os, sys, threading
directory, keys = sys.argv[1], int(sys.argv[2])
for i in range(keys):
    with open(f"{directory}/stays{i}", "w") as f:
        f.write(f"value {i} " * 20)
stop = threading.Event()
rounds = 0
def come_and_go():
    global rounds
    while not stop.is_set():
        rounds += 1
        name = f"{directory}/passes{rounds % 500}"
        open(name, "w").close()
        os.rename(name, name + "x")
        os.unlink(name + "x")
thread = threading.Thread(target=come_and_go)
thread.start()
try:
    listings = 0
    while listings < 5 or rounds <= 100:
        listings += 1
        names = [entry.name for entry in os.scandir(directory)]
        stays = [name for name in names if name.startswith("stays")]
        assert len(stays) == len(set(stays)) == keys, f"{len(stays)} listed, {len(set(stays))} different, of {keys}"
finally:
    stop.set()
    thread.join()
PY
if [ -z "$TARGET" ]; then
    awk -F'\t' 'NR > 1 { n++; keys[n] = $2; sum += $2 }
        END {
            if (n < 1 || sum < '"$KEYS"') { print "only " sum " keys in " n " partitions"; exit 1 }
            for (i in keys) if (keys[i] < sum / n * 0.9 || keys[i] > sum / n * 1.1) {
                print "partition " i - 1 " has " keys[i] " of " sum " keys"; exit 1 }
        }' "$MNT/.bitkv/partitions" || fail "not even"
    # What makes the space count: how much there is before.
    echo all wait >"$MNT/.bitkv/compact"
    before=$(data_bytes)
    live=$(stat_of live_bytes)
fi
python3 - "$MNT/flat" "$KEYS" <<'PY'
import os, sys
for i in range(0, int(sys.argv[2]), 2):
    os.unlink(f"{sys.argv[1]}/stays{i}")
PY
if [ -z "$TARGET" ]; then
    echo all wait >"$MNT/.bitkv/compact"
    after=$(data_bytes)
    now=$(stat_of live_bytes)
    echo "live $live -> $now, on disk $before -> $after"
    [ "$now" -lt $((live * 6 / 10)) ] || fail "half is deleted, but of $live live bytes there are still $now"
    [ $((before - after)) -gt $((live * 4 / 10)) ] || fail "half of $live bytes is deleted, but the disk got only $((before - after)) back"
    [ "$(stat_of dead_bytes)" -lt $((live / 10)) ] || fail "after compacting $(stat_of dead_bytes) bytes are still dead"
fi
check() {
    python3 - "$MNT/flat" "$KEYS" <<'PY'
import os, sys
directory, keys = sys.argv[1], int(sys.argv[2])
names = os.listdir(directory)
expected = {f"stays{i}" for i in range(1, keys, 2)}
back = sorted(set(names) - expected)
assert not back, f"{len(back)} deleted names are back, such as {back[:3]}"
assert len(names) == len(set(names)) and set(names) == expected, (len(names), len(expected))
for i in range(1, keys, 2):
    assert open(f"{directory}/stays{i}").read() == f"value {i} " * 20, i
PY
}
check
unmount_store
mount_store --segment-size 8M
check
# And when nothing but the segments is left to tell: hints gone.
if [ -z "$TARGET" ]; then
    unmount_store
    find "$DATA" -name '*.hint' -delete
    mount_store --segment-size 8M
    check
    kill_daemon
    mount_store --segment-size 8M
    check
fi
