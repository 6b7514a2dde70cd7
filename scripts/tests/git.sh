#!/usr/bin/env bash
# git works inside the mount, and finds nothing wrong.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
source_tree "$WORK/source"
mount_store
export GIT_AUTHOR_NAME=test GIT_AUTHOR_EMAIL=test@localhost GIT_COMMITTER_NAME=test GIT_COMMITTER_EMAIL=test@localhost
export GIT_CONFIG_GLOBAL=/dev/null HOME=$WORK
git init -q "$MNT/repo"
find "$WORK/source" -mindepth 2 -maxdepth 2 -type d | LC_ALL=C sort >"$WORK/directories"
head -n 60 "$WORK/directories" | xargs -I{} cp -r {} "$MNT/repo/"
cd "$MNT/repo"
git add -A -f . >/dev/null
git commit -q -m first
echo change >>"$(find . -name README.md | LC_ALL=C sort | tail -n 1)"
git commit -q -a -m second
git clone -q --no-local "$MNT/repo" "$MNT/clone"
git gc -q
git fsck --strict --no-progress
git -C "$MNT/clone" fsck --strict --no-progress
same "the tree is clean" "" "$(git status --porcelain)"
same "the clone has it all" "$(git rev-parse 'HEAD^{tree}')" "$(git -C "$MNT/clone" rev-parse 'HEAD^{tree}')"
cd /
unmount_store
mount_store
git -C "$MNT/repo" fsck --strict --no-progress
same "clean after a remount" "" "$(git -C "$MNT/repo" status --porcelain)"
