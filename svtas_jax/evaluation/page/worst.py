"""The longest wrong stretches of a report, with a picture of each."""

from svtas_jax.evaluation.details import Details
from svtas_jax.evaluation.mistakes import Stretch, longest_stretches
from svtas_jax.evaluation.page.thumbnails import thumbnails
from svtas_jax.evaluation.page.timelines import swatch
from svtas_jax.pages.skeleton import escape

_COUNT = 24


def section(details: Details) -> str:
    """Returns the section, "" if no label is wrong."""
    stretches = longest_stretches(details, _COUNT)
    if not stretches:
        return ""
    pictures = thumbnails((details.videos[s.video], s.middle) for s in stretches)
    place = {name: index for index, name in enumerate(details.videos)}
    blank = '<span class="blank">no picture</span>' if any(pictures) else ""
    images = [
        f'<img src="{p}" alt="" loading="lazy">' if p else blank for p in pictures
    ]
    cards = "\n".join(
        _card(details, stretch, image, place[stretch.video])
        for stretch, image in zip(stretches, images, strict=True)
    )
    return f"""<section><h2>Longest mistakes</h2>
<p class="pale">Stretches of one true class and one wrong label. Click one for the frame
in its middle.</p>
<div class="mistakes">
{cards}
</div></section>"""


def _card(details: Details, stretch: Stretch, image: str, index: int) -> str:
    video = details.videos[stretch.video]
    when = f"frames {stretch.start} to {stretch.end}"
    if video.fps or len(video.times_s):
        start, end = video.time_of(stretch.start), video.time_of(stretch.end)
        when = f"{start:.1f} to {end:.1f} s"
    return f"""<button type="button" data-video="{index}" data-frame="{stretch.middle}">
{image}<span class="line"><b>{escape(stretch.video)}</b></span>
<span class="line pale">{when}</span>
<span class="line">true: {swatch(details, stretch.truth)}</span>
<span class="line">said: {swatch(details, stretch.prediction)}</span></button>"""
