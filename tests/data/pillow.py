"""Prints the expected values of pictures.rs: Pillow's bilinear resizing and torchvision's middle cut.

Run with Pillow installed: python3 pillow.py
"""

import PIL
from PIL import Image


def value(channel, y, x):
    return (channel * 50 + y * 7 + x * 13 + x * y * 3) % 256


def case(height, width, shorter_side, size):
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            image.putpixel((x, y), tuple(value(c, y, x) for c in range(3)))
    short = min(height, width)
    # torchvision.transforms.Resize: the longer side is truncated
    new_height = shorter_side if height == short else int(shorter_side * height / short)
    new_width = shorter_side if width == short else int(shorter_side * width / short)
    # Rows first, as in one call of every Pillow before 13; that one starts with columns where these shrink more.
    image = image.resize((new_width, height), Image.Resampling.BILINEAR)
    image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
    # torchvision.transforms.CenterCrop: Python's round takes halves to even numbers
    top, left = round((new_height - size) / 2), round((new_width - size) / 2)
    image = image.crop((left, top, left + size, top + size))
    planes = [[image.getpixel((x, y))[c] for y in range(size) for x in range(size)] for c in range(3)]
    print((height, width, shorter_side, size), planes)


print(PIL.__version__)
case(9, 13, 5, 4)
case(9, 13, 11, 5)
case(17, 5, 4, 4)
case(61, 97, 4, 3)
case(8, 11, 8, 4)
case(5, 5, 9, 4)
