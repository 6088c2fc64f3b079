"""Tests of the page in a browser: overlays, keys, case order, tables, phones and no scripts."""

import numpy as np
import pytest

from evaluation.logit_bins import bin_probability
from evaluation.metrics.segmentation import dice
from tests.factories import pages
from tests.factories.pages import slide
from tests.unit.reporting.test_page_data import moved


def test_overlays_and_the_dice_below_follow_the_slider(made, opened):
    page = made("mask")
    tab, figure = opened(page.path), "figure:not([hidden])"
    first = int(tab.locator(figure).first.get_attribute("data-case"))
    i = page.seen.ids.tolist().index(
        tab.evaluate(f"JSON.parse(document.getElementById('data').textContent).cases[{first}].id")
    )
    tab.locator(figure).first.scroll_into_view_if_needed()
    areas = []
    for byte in (110, 130, 255):
        slide(tab, byte)
        said = tab.locator(f"{figure} .moving").first.inner_text()
        assert said == f"Dice {dice(moved(page.seen, 0, byte).decision(0).pixels)[i]:.4f}"
        tab.locator(f"{figure} canvas[data-at='{byte}']").first.wait_for()
        areas.append(orange(tab, first))
    assert areas[0] > 2 * areas[1] > 0 and areas[2] == 0
    tab.evaluate("document.querySelector('figure:not([hidden]) .open').click()")
    assert (
        tab.locator("#about").inner_text() == f"{said} · threshold 1 − 1.3e-7"
        and tab.locator("#name").inner_text() == page.seen.ids[i]
    )


def orange(tab, case):
    """Pixels of a case's overlay that are no gray and not the truth's green."""
    script = (
        '(case_) => { const c = document.querySelector(`figure[data-case="${case_}"] canvas`);\n'
        '      const copy = new OffscreenCanvas(c.width, c.height).getContext("2d"); '
        "copy.drawImage(c, 0, 0);\n"
        "      const p = copy.getImageData(0, 0, c.width, c.height).data; let n = 0;\n"
        "      for (let i = 0; i < p.length; i += 4) n += p[i] > p[i + 2] + 25 && "
        "p[i] > p[i + 1] + 8; return n / p.length }"
    )
    return tab.evaluate(script, case)


def test_keys_open_walk_and_close_a_case(made, opened):
    tab = opened(made("mask").path)
    shown = tab.evaluate(
        "[...document.querySelectorAll('figure:not([hidden])')].map((f) =>"
        " f.querySelector('.open').getAttribute('aria-label'))"
    )
    tab.locator("figure:not([hidden]) .open").first.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#zoom").is_visible() and f"enlarge {tab.inner_text('#name')}" == shown[0]
    tab.keyboard.press("ArrowRight")
    assert f"enlarge {tab.inner_text('#name')}" == shown[1]
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert f"enlarge {tab.inner_text('#name')}" == shown[-1]
    width = "document.querySelector('#stage canvas').clientWidth"
    before = tab.evaluate(width)
    tab.keyboard.press("+")
    assert tab.evaluate(width) > 1.2 * before
    tab.keyboard.press("-")
    for key, layer in (("t", "truth"), ("p", "prediction"), ("m", "map")):
        pressed = tab.locator(f"[data-layer={layer}]")
        was = pressed.get_attribute("aria-pressed")
        tab.keyboard.press(key)
        assert pressed.get_attribute("aria-pressed") != was
    tab.keyboard.press("ArrowUp")
    assert tab.locator("#byte").input_value() == "125"
    tab.keyboard.press("?")
    assert tab.locator("#keys").is_visible()
    tab.keyboard.press("Escape")
    tab.keyboard.press("Escape")
    assert not tab.locator("#keys").is_visible() and not tab.locator("#zoom").is_visible()


def test_cases_stand_in_the_order_that_is_asked_for(made, opened):
    page = made("mask")
    tab = opened(page.path)
    values, area = dice(page.seen.decision(0).pixels), page.seen.truth[:, 0, 1]
    lesion = page.seen.decision(0).positive
    for name, key in (("worst", values), ("best", -values), ("largest", -area), ("smallest", area)):
        tab.locator("#orders button", has_text=name).click()
        shown = tab.evaluate(
            "[...document.querySelectorAll('figure:not([hidden]) .open')].map((e) =>"
            " e.getAttribute('aria-label').slice(8))"
        )
        places = [page.seen.ids.tolist().index(id) for id in shown]
        assert (
            len(places) >= 3
            and lesion[places].all()
            and key[places].tolist() == sorted(key[lesion])[: len(places)]
        )
    tab.locator("#more").click()
    assert tab.locator("figure:not([hidden])").count() == tab.locator("figure").count()


def test_the_table_of_all_images_sorts_filters_and_opens(made, opened):
    page = made("label")
    tab = opened(page.path)
    first = (
        "[...document.querySelectorAll('#images tbody tr')].map((row) => row.cells[0].textContent)"
    )
    tab.locator("#images th button", has_text="probability").click()
    assert (
        tab.evaluate(first)
        == page.seen.ids[np.argsort(page.seen.probability[:, 0], kind="stable")].tolist()
    )
    tab.locator("#images th button", has_text="probability").click()
    assert tab.evaluate(first)[0] == page.seen.ids[page.seen.probability[:, 0].argmax()]
    slide(tab, 140)
    tab.locator("#filter").fill("False Negative")
    says = page.seen.probability[:, 0] >= bin_probability(140)
    missed = (~says & (page.truth[:, 0] > 0)).sum()
    assert len(tab.evaluate(first)) == missed and tab.inner_text("#number") == f"{missed} of 60"
    tab.locator("#filter").fill("")
    tab.locator("#images tr.pictured").first.click()
    assert tab.locator("#zoom").is_visible()


@pytest.mark.parametrize("name", ["mask", "masks", "labels"])
def test_a_phone_needs_no_sideways_scrolling_and_data_is_never_markup(name, made, opened):
    tab = opened(made(name).path, set_viewport_size={"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert not tab.locator("img[src=x]").count() and pages.EVIL in tab.title()
    assert name == "labels" or f"{pages.EVIL}0" in tab.evaluate(
        "[...document.querySelectorAll('#images tbody td')].map((e) => e.textContent)"
    )


def test_without_scripts_the_still_panes_are_seen_and_no_control_that_does_nothing(made, browser):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(made("mask").path.as_uri())
    assert tab.locator("figure").first.locator("img:visible").count() == 4
    assert (
        not tab.locator("#bar").is_visible()
        and not tab.locator("#images").is_visible()
        and not tab.locator("#orders").is_visible()
    )
    context.close()


def test_the_enlarged_picture_is_the_one_that_is_named_however_fast_one_goes_on(made, opened):
    tab = opened(made("mask").path)
    seen = "document.querySelector('#zoom canvas').toDataURL()"
    tab.locator("#grid").scroll_into_view_if_needed()
    tab.wait_for_timeout(500)
    tab.locator("figure:not([hidden]) .open").first.click()
    tab.wait_for_timeout(300)
    alone, name = tab.evaluate(seen), tab.inner_text("#name")
    tab.keyboard.press("Escape")
    tab.evaluate(
        '() => { const shown = [...document.querySelectorAll("figure:not([hidden]) .open")]'
        ".map((e) => e.ariaLabel.slice(8));\n"
        '      [...document.querySelectorAll("#images .pictured")]'
        ".find((row) => !shown.includes(row.cells[0].textContent)).click();\n"
        '      document.getElementById("next").click() }'
    )  # one that is not unpacked yet, and at once the first, which is
    tab.wait_for_timeout(500)
    assert tab.inner_text("#name") == name and tab.evaluate(seen) == alone


def test_arrows_move_a_picture_that_is_enlarged_and_its_middle_stays(made, opened):
    tab = opened(made("mask").path)
    tab.locator("figure:not([hidden]) .open").first.click()
    name = tab.inner_text("#name")
    for _ in range(6):
        tab.keyboard.press("+")
    middle = (
        "(({ scrollLeft, clientWidth, scrollWidth }) => (scrollLeft + clientWidth / 2) /"
        " scrollWidth)(document.getElementById('stage'))"
    )
    assert tab.evaluate(middle) == pytest.approx(0.5, abs=0.02)
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate(middle) > 0.52 and tab.inner_text("#name") == name
