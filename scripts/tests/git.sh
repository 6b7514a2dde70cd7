#!/usr/bin/env bash
# git works inside the mount on thousands of files, and finds nothing wrong.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
source_tree "$WORK/source"
mount_store
export GIT_AUTHOR_NAME=test GIT_AUTHOR_EMAIL=test@localhost GIT_COMMITTER_NAME=test GIT_COMMITTER_EMAIL=test@localhost
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 HOME=$WORK
git init -q "$MNT/repo"
# Crates bring files named .git* of their own, which would hide others.
find "$WORK/source" -name '.git*' -prune -exec rm -rf {} +
cp -a "$WORK/source/." "$MNT/repo/"
cd "$MNT/repo"
mkdir library
seq 200 >library/text.rs
git add -A -f .
git commit -q -m first
same "files in the commit" $(($(find "$WORK/source" ! -type d | wc -l) + 1)) "$(git ls-tree -r HEAD | wc -l)"
changed=library/text.rs
echo change >>"$changed"
same "what git status sees" " M $changed" "$(git status --porcelain)"
git commit -q -a -m second
git checkout -q -b other HEAD~1
git mv "$changed" renamed.rs
git commit -q -m moved
git checkout -q -
git merge -q -m merged other
grep -qx change renamed.rs || fail "the merge lost a line"
# --no-local: through the protocol, as from afar, and not by hard links.
git clone -q --no-local "$MNT/repo" "$MNT/clone"
git clone -q "$MNT/repo" "$MNT/linked"
git gc -q --prune=now
for repository in repo clone linked; do
    git -C "$MNT/$repository" fsck --strict --full --no-progress
    same "$repository has it all" "$(git rev-parse 'HEAD^{tree}')" "$(git -C "$MNT/$repository" rev-parse 'HEAD^{tree}')"
    same "$repository is clean" "" "$(git -C "$MNT/$repository" status --porcelain)"
done
cd /
unmount_store
mount_store
git -C "$MNT/repo" fsck --strict --full --no-progress
same "clean after a remount" "" "$(git -C "$MNT/repo" status --porcelain)"
# Outside of the mount the same objects give the same files.
git clone -q --no-local "$MNT/repo" "$WORK/outside"
rm -rf "$WORK/outside/.git" "$MNT/clone/.git"
same "files of a clone outside" "$(tree_sum "$WORK/outside")" "$(tree_sum "$MNT/clone")"
