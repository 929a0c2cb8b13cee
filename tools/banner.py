"""Draw the icon and the banner of the registry page: the photograph of the demo, seen by a camera that moves in.

python -m tools.banner
"""

from pathlib import Path

from PIL import Image, ImageDraw

from svd_core.charts import font

ROOT = Path(__file__).resolve().parent.parent
DOCS, PHOTOGRAPH = ROOT / "docs", ROOT / "svd_core" / "assets" / "demo.png"
INK, PAPER, ACCENT = (24, 26, 32), (245, 243, 238), (255, 140, 80)
ICON, BANNER = 400, (2100, 900)  # pixels; the registry shows icons of 1:1 and banners of 21:9


def frames(count: int) -> list[Image.Image]:
    """Return `count` square crops of the photograph, from the whole height to two thirds of it."""
    with Image.open(PHOTOGRAPH) as opened:
        photograph = opened.convert("RGB")
    crops = []
    for index in range(count):
        side = round(photograph.height * (1 - index / (count - 1) / 3))
        left = round((photograph.width - side) * (0.5 - 0.2 * index / (count - 1)))
        top = (photograph.height - side) // 2
        crops.append(photograph.crop((left, top, left + side, top + side)))
    return crops


def strip(pictures: list[Image.Image], side: int, step: int) -> Image.Image:
    """Return the pictures as overlapping cards, the last in front, on transparent ground."""
    edge, radius = side // 40, side // 12
    sheet = Image.new("RGBA", (side + step * (len(pictures) - 1) + edge * 2, side + edge * 2), (0, 0, 0, 0))
    for index, picture in enumerate(pictures):
        card = Image.new("RGBA", (side + edge * 2,) * 2, (0, 0, 0, 0))
        ImageDraw.Draw(card).rounded_rectangle((0, 0, card.width - 1, card.height - 1), radius + edge, fill=PAPER)
        mask = Image.new("L", (side, side), 0)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, side - 1, side - 1), radius, fill=255)
        card.paste(picture.resize((side, side), Image.LANCZOS), (edge, edge), mask)
        sheet.alpha_composite(card, (step * index, 0))
    return sheet


def icon() -> Image.Image:
    """Return the icon: three frames and a mark of play."""
    page = Image.new("RGB", (ICON, ICON), INK)
    cards = strip(frames(3), 220, 56)
    page.paste(cards, ((ICON - cards.width) // 2, (ICON - cards.height) // 2), cards)
    x, y, size = ICON // 2 + 56, ICON // 2, 52
    ImageDraw.Draw(page).polygon([(x - size // 2, y - size), (x - size // 2, y + size), (x + size, y)], fill=PAPER)
    return page


def banner() -> Image.Image:
    """Return the banner: the name, one sentence, and five frames."""
    page = Image.new("RGB", BANNER, INK)
    cards = strip(frames(5), 520, 150)
    page.paste(cards, (BANNER[0] - cards.width - 90, (BANNER[1] - cards.height) // 2), cards)
    draw = ImageDraw.Draw(page)
    draw.text((110, 300), "SVD Reel", fill=PAPER, font=font(140))
    for line, text in enumerate(("A still image, a moving clip.", "Stable Video Diffusion", "for ComfyUI.")):
        draw.text((116, 490 + 62 * line), text, fill=ACCENT if line == 0 else PAPER, font=font(44))
    return page


def main() -> None:
    """Write docs/icon.png and docs/banner.png."""
    for name, picture in (("icon", icon()), ("banner", banner())):
        picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(DOCS / f"{name}.png", optimize=True)
        print(DOCS / f"{name}.png")


if __name__ == "__main__":
    main()
