#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Turns what `tmux capture-pane -e` prints into a picture: pictures.py SCREEN.ansi PICTURE.png [light]

Text is DejaVu Sans Mono by Pillow; block characters are drawn by their definition, so that a
picture shows what was meant and not what a font made of it.
"""
import re
import sys

from PIL import Image, ImageDraw, ImageFont

W, H = 9, 18
FONTS = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono%s.ttf"
ANSI = [0x000000, 0xCD0000, 0x00CD00, 0xCDCD00, 0x0000EE, 0xCD00CD, 0x00CDCD, 0xE5E5E5,
        0x7F7F7F, 0xFF0000, 0x00FF00, 0xFFFF00, 0x5C5CFF, 0xFF00FF, 0x00FFFF, 0xFFFFFF]
QUADRANTS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"  # bit 0 top left, 1 top right, 2 bottom left, 3 bottom right
SEXTANTS = {0: " ", 21: "▌", 42: "▐", 63: "█"}


def rgb(n):
    return (n >> 16, n >> 8 & 255, n & 255)


def xterm(i):
    if i < 16:
        return rgb(ANSI[i])
    if i < 232:
        level = lambda n: 55 + 40 * n if n else 0
        return level((i - 16) // 36), level((i - 16) // 6 % 6), level((i - 16) % 6)
    return (8 + 10 * (i - 232),) * 3


def blocks():
    """Character -> (columns, rows, mask)."""
    table = {c: (2, 2, m) for m, c in enumerate(QUADRANTS)}
    code = 0x1FB00
    for mask in range(1, 63):
        if mask not in SEXTANTS:
            table[chr(code)] = (2, 3, mask)
            code += 1
    for n in range(1, 8):
        table[chr(0x2580 + n)] = (1, 8, sum(1 << (7 - k) for k in range(n)))
        table[chr(0x2590 - n)] = (8, 1, (1 << n) - 1)
    table["▐"] = (2, 1, 2)
    # Octants (U+1CD00 ..): all masks of 2 x 4 that no older character shows, in order.
    older = {0, 255, 0xF0, 0x0F, 0x55, 0xAA, 0x05, 0x0A, 0x50, 0xA0, 0xA5, 0x5A, 0x5F, 0xF5, 0xAF, 0xFA,
             0x03, 0xC0, 0x3F, 0xFC, 0x01, 0x02, 0x40, 0x80, 0x14, 0x28}
    code = 0x1CD00
    for mask in range(256):
        if mask not in older:
            table[chr(code)] = (2, 4, mask)
            code += 1
    for char, mask in {"𜺨": 0x01, "𜺫": 0x02, "𜺣": 0x40, "𜺠": 0x80, "🯦": 0x14, "🯧": 0x28, "🮂": 0x03, "🮅": 0x3F}.items():
        table[char] = (2, 4, mask)
    return table


def cells(line, style):
    """(character, style) for a line; the style continues on the next line."""
    out = []
    for sgr, char in re.findall(r"\x1b\[([0-9;:]*)m|(.)", line):
        if char:
            out.append((char, dict(style)))
            continue
        codes = [int(c or 0) for c in re.split("[;:]", sgr)]
        while codes:
            c = codes.pop(0)
            if c == 0:
                style.clear()
            elif c in (1, 2, 7, 4):
                style[{1: "bold", 2: "dim", 7: "reverse", 4: "under"}[c]] = True
            elif c in (22, 27, 24):
                for name in {22: ("bold", "dim"), 27: ("reverse",), 24: ("under",)}[c]:
                    style.pop(name, None)
            elif c in (38, 48):
                kind = codes.pop(0)
                colour = xterm(codes.pop(0)) if kind == 5 else tuple(codes.pop(0) for _ in range(3))
                style["fg" if c == 38 else "bg"] = colour
            elif c in (39, 49):
                style.pop("fg" if c == 39 else "bg", None)
            elif 30 <= c < 38 or 90 <= c < 98:
                style["fg"] = xterm(c - 30 if c < 38 else c - 82)
            elif 40 <= c < 48 or 100 <= c < 108:
                style["bg"] = xterm(c - 40 if c < 48 else c - 92)
    return out


def main():
    light = len(sys.argv) > 3 and sys.argv[3] == "light"
    ground, ink = ((255, 255, 255), (20, 20, 20)) if light else ((0, 0, 0), (208, 208, 208))
    lines = open(sys.argv[1], encoding="utf-8", errors="replace").read().rstrip("\n").split("\n")
    style = {}
    rows = [cells(line, style) for line in lines]
    columns = max(map(len, rows), default=1)
    image = Image.new("RGB", (columns * W, len(rows) * H), ground)
    draw = ImageDraw.Draw(image)
    fonts = {bold: ImageFont.truetype(FONTS % ("-Bold" if bold else ""), 15) for bold in (False, True)}
    table = blocks()
    for y, row in enumerate(rows):
        for x, (char, st) in enumerate(row):
            fg, bg = st.get("fg", ink), st.get("bg", ground)
            if st.get("reverse"):
                fg, bg = bg, fg
            if st.get("dim"):
                fg = tuple((f + b) // 2 for f, b in zip(fg, bg))
            x0, y0 = x * W, y * H
            draw.rectangle((x0, y0, x0 + W - 1, y0 + H - 1), fill=bg)
            if char in table:
                w, h, mask = table[char]
                for i in range(w * h):
                    if mask >> i & 1:
                        a, b = i % w, i // w
                        draw.rectangle((x0 + a * W // w, y0 + b * H // h, x0 + (a + 1) * W // w - 1, y0 + (b + 1) * H // h - 1), fill=fg)
            elif char in "░▒▓":
                share = "░▒▓".index(char) + 1
                draw.rectangle((x0, y0, x0 + W - 1, y0 + H - 1), fill=tuple((f * share + b * (4 - share)) // 4 for f, b in zip(fg, bg)))
            elif char != " ":
                draw.text((x0, y0), char, font=fonts[bool(st.get("bold"))], fill=fg)
            if st.get("under"):
                draw.line((x0, y0 + H - 1, x0 + W - 1, y0 + H - 1), fill=fg)
    image.save(sys.argv[2])


main()
