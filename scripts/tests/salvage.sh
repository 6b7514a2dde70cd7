#!/usr/bin/env bash
# Damage that hides which keys it hit: the store is refused with what and where, and changes nothing. With --salvage it is mounted for reading
# only, with everything else, and says what is lost.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
scratch
mount_store --partitions 1 --segment-size 4M --no-auto-compact
python3 - "$MNT" <<'PY'
import hashlib, sys
for i in range(1600):
    open(f"{sys.argv[1]}/f{i}", "wb").write(hashlib.sha256(str(i).encode()).digest() * 200)
PY
unmount_store
# A sealed segment loses its hint, and in its middle the header of whatever lies there.
segment=$DATA/partition_000/0000000001
[ -e "$segment.hint" ] || fail "segment 1 has no hint: it isn't sealed"
rm "$segment.hint"
python3 - "$segment.data" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    data = bytearray(f.read())
    for i in range(len(data) // 2, len(data) // 2 + 8000):
        data[i] ^= 0x5a
    f.seek(0)
    f.write(data)
PY
before=$(cat "$DATA"/MANIFEST "$DATA"/partition_000/* | sha256sum)
refused "a store whose damage hides keys" "$BITKV_MOUNT" "$DATA" "$MNT"
case $message in
    *"is damaged: partition_000/0000000001.data at offset "*salvage*) ;;
    *) fail "the refusal says: $message" ;;
esac
mount_store --salvage
case $(cat "$MNT/.bitkv/health") in
    "read-only: opened for salvage; "*) ;;
    *) fail "health says: $(cat "$MNT/.bitkv/health")" ;;
esac
grep -q "^lost	partition_000/0000000001.data at offset " "$MNT/.bitkv/errors" || fail "errors says: $(cat "$MNT/.bitkv/errors")"
refused "a change" touch "$MNT/new"
python3 - "$MNT" <<'PY'
import errno, hashlib, os, sys
right, gone = 0, 0
for i in range(1600):
    try:
        data = open(f"{sys.argv[1]}/f{i}", "rb").read()
    except OSError as error:
        assert error.errno in (errno.ENOENT, errno.EIO), error
        gone += 1
        continue
    if not data:
        # As it was created: the writing is what is lost.
        gone += 1
        continue
    assert data == hashlib.sha256(str(i).encode()).digest() * 200, i
    right += 1
print(f"{right} files are right, {gone} are gone")
assert right > 1500 and gone > 0
PY
unmount_store
same "the store's bytes" "$before" "$(cat "$DATA"/MANIFEST "$DATA"/partition_000/* | sha256sum)"
