from reports.kit.palette import method_styles


def test_every_method_has_its_own_look():
    styles = method_styles([str(index) for index in range(42)])
    looks = {(style.colour, style.symbol) for style in styles.values()}
    assert len(looks) == 42
