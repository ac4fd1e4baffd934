#!/bin/sh
# The widget tests need an X server with OpenGL. On Debian and Ubuntu this installs a virtual one
# when that needs no password; elsewhere it says in one line what to install. Never fails: without
# a screen the tests that need one say so themselves.
set -eu

packages="xvfb xauth libgl1 libegl1 libgl1-mesa-dri libxkbcommon-x11-0 libxcb-cursor0
libxcb-icccm4 libxcb-keysyms1 libxcb-image0 libxcb-render-util0 libxcb-xinerama0 libdbus-1-3"

# macOS and Windows bring their own screen.
[ "$(uname -s)" = Linux ] || exit 0

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    command -v xvfb-run >/dev/null 2>&1 && exit 0
    echo "For the widget tests install Xvfb (xvfb-run) and Mesa's OpenGL from your distribution." >&2
    exit 0
fi

missing=""
for package in $packages; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n env DEBIAN_FRONTEND=noninteractive"
else
    echo "For the widget tests run: sudo apt-get install$missing" >&2
    exit 0
fi

echo "Installing a virtual screen for the widget tests:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # both variables are lists of words
if ! { $as_root apt-get update && $as_root apt-get install -y --no-install-recommends $missing; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 15 "$log" >&2
    echo "Could not install the virtual screen; by hand: apt-get install$missing" >&2
fi
