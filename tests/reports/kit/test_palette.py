from reports.kit.palette import COLOURS, method_styles


def test_every_method_has_its_own_look():
    styles = method_styles([str(index) for index in range(42)])
    looks = {(style.colour, style.symbol) for style in styles.values()}
    assert len(looks) == 42


def luminance(colour: str) -> float:
    """The relative luminance of sRGB, as WCAG 2 defines it."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_marks_stand_out_from_both_pages() -> None:
    for page in ("#ffffff", "#14171b"):
        for colour in COLOURS:
            low, high = sorted((luminance(colour), luminance(page)))
            assert (high + 0.05) / (low + 0.05) >= 3, (colour, page)
