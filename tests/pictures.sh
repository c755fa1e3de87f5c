#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# pictures.sh TMON DIR: visits every view and key of the dashboard in a lab of its own, under tmux,
# and leaves a picture of each screen in DIR. Needs root, tmux, python3 with Pillow, DejaVu fonts.
set -euo pipefail
tmon=$(realpath "$1")
dir=$2
here=$(dirname "$(realpath "$0")")
lab=tmon-pictures-$$
socket=$lab
# Debian's own python has Debian's Pillow.
python=$(command -v /usr/bin/python3 || command -v python3)
mkdir -p "$dir"
dir=$(realpath "$dir")
rm -f "$dir"/*.png "$dir"/*.ansi

cleanup() {
	tmux -L "$socket" kill-server 2>/dev/null || true
	[ -z "${traffic:-}" ] || kill "$traffic" 2>/dev/null || true
	wait 2>/dev/null || true
	"$tmon" lab down --prefix "$lab" >/dev/null
}
trap cleanup EXIT
"$tmon" lab up --prefix "$lab" >/dev/null
"$tmon" lab traffic demo --prefix "$lab" >/dev/null &
traffic=$!

# tmux says nothing of its own and passes all colours on.
tmux -L "$socket" -f /dev/null new-session -d -s keep -x 80 -y 24
tmux -L "$socket" set -g status off
tmux -L "$socket" set -g remain-on-exit on
tmux -L "$socket" set -ga terminal-overrides ',*:RGB'

# open SIZE FLAGS...: a dashboard of this size
open() {
	local size=$1
	shift
	tmux -L "$socket" new-session -d -s t -x "${size%x*}" -y "${size#*x}" -c "$dir" \
		"env -u NO_COLOR XDG_CONFIG_HOME=/nonexistent TERM=tmux-256color COLORTERM=truecolor $tmon top switch --netns $lab-fabric --interval 500ms $*"
	tmux -L "$socket" resize-window -t t -x "${size%x*}" -y "${size#*x}"
	wait_for 'peak'
}

wait_for() {
	local i
	for i in $(seq 200); do
		if tmux -L "$socket" capture-pane -p -t t | grep -q -- "$1"; then return; fi
		sleep 0.1
	done
	echo "pictures: '$1' never came on the screen" >&2
	tmux -L "$socket" capture-pane -p -t t >&2
	exit 1
}

# shot NAME [WORD] [KEYS...]: presses keys, waits for a word, takes the picture
shot() {
	local name=$1 word=$2 key
	shift 2
	for key in "$@"; do tmux -L "$socket" send-keys -t t "$key"; done
	wait_for "$word"
	sleep 1.2 # animations end
	tmux -L "$socket" capture-pane -e -N -p -t t >"$dir/$name.ansi"
	"$python" "$here/pictures.py" "$dir/$name.ansi" "$dir/$name.png" "${ground:-dark}"
	echo "$dir/$name.png"
}

close() { tmux -L "$socket" kill-session -t t; }

for size in 80x24 120x40 300x90; do
	open $size
	sleep 5 # some history to show
	shot $size-chord networks
	shot $size-host marked j m
	shot $size-ribbon received l
	shot $size-two-marked '2 marked' j m
	shot $size-inner 'inner addresses' Enter
	shot $size-inner-pair received j l
	shot $size-rows 'tunnel' Enter
	shot $size-id 'vxlan 1000' Escape Escape Escape Escape c 1 i
	shot $size-filter-wrong 'try' / h o s t : 1 7
	shot $size-filter '/host' .2 BSpace BSpace 2.16.1.10 1 Enter
	shot $size-matrix 'logarithmic' / C-u Enter I 2
	shot $size-cell received j l l
	shot $size-table 'rate' Escape 3
	shot $size-row received j j
	shot $size-table-totals 'total' t s
	shot $size-packets 'packets' t b b
	shot $size-past 'back' b 1 '[' '['
	shot $size-peak 'peak' p
	shot $size-health 'measurement' Space 4
	shot $size-help 'Explore' '?'
	shot $size-fewer 'others' '?' 1 - - - - - -
	close
done

for theme in dark light colour-blind mono; do
	for colours in truecolor 256 16; do
		ground=$([ $theme = light ] && echo light || echo dark)
		open 80x24 --theme $theme --colours $colours
		shot $theme-$colours-chord networks
		shot $theme-$colours-ribbon received j l
		shot $theme-$colours-matrix logarithmic 2
		shot $theme-$colours-table rate 3 j
		close
	done
done
unset ground
for cells in half quadrant sextant octant; do
	open 80x24 --cells $cells
	shot cells-$cells networks
	close
done
