#!/usr/bin/env bash
# Many keys in one flat directory: spread evenly, listed exactly once while others come and go; then half of them goes.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
KEYS=${KEYS:-20000}
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
def come_and_go():
    n = 0
    while not stop.is_set():
        n += 1
        name = f"{directory}/passes{n % 500}"
        open(name, "w").close()
        os.unlink(name)
thread = threading.Thread(target=come_and_go)
thread.start()
try:
    for _ in range(5):
        names = [e.name for e in os.scandir(directory)]
        stays = [n for n in names if n.startswith("stays")]
        assert len(stays) == len(set(stays)) == keys, (len(stays), len(set(stays)), keys)
finally:
    stop.set()
    thread.join()
PY
awk -F'\t' 'NR > 1 { n++; k[n] = $2; sum += $2 } END { for (i in k) if (k[i] < sum / n * 0.9 || k[i] > sum / n * 1.1) { print "partition " i " has " k[i] " of " sum " keys"; exit 1 } }' "$MNT/.bitkv/partitions"
before=$(stat_of live_bytes)
python3 - "$MNT/flat" "$KEYS" <<'PY'
import os, sys
for i in range(0, int(sys.argv[2]), 2):
    os.unlink(f"{sys.argv[1]}/stays{i}")
PY
sleep 0.5
echo all wait >"$MNT/.bitkv/compact"
dead=$(stat_of dead_bytes)
[ "$dead" -lt $((before / 10)) ] || fail "after compacting $dead bytes are still dead; $before had been live"
unmount_store
mount_store
python3 - "$MNT/flat" "$KEYS" <<'PY'
import os, sys
directory, keys = sys.argv[1], int(sys.argv[2])
names = set(os.listdir(directory))
assert names == {f"stays{i}" for i in range(1, keys, 2)}, len(names)
for i in range(1, keys, 2):
    assert open(f"{directory}/stays{i}").read() == f"value {i} " * 20, i
PY
