#!/bin/sh
# Run a command on a virtual screen of its own where one is to be had, else on the screen at hand.
set -eu

if [ "$(uname -s)" = Linux ] && command -v xvfb-run >/dev/null 2>&1; then
    # Qt must not take a Wayland session over the virtual X server; 24 bits are what OpenGL needs.
    unset WAYLAND_DISPLAY
    exec env QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1400x900x24" "$@"
fi
exec "$@"
