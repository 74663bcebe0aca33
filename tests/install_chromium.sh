#!/bin/sh
# Installs Chromium for the tests of the page, where there is none and apt may be used. Without it those tests skip,
# except on CI, where they fail.
set -eu
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0
fi
echo "chromium is not installed and apt-get cannot install it here: the tests of the page will skip" >&2
