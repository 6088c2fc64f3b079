"""The baseline that has learned nothing: the brightest blobs of the picture."""

import numpy as np
from skimage.filters import gaussian
from skimage.util import img_as_float32

from callbacks.pseudo_labels.boxes import PeakBoxes
from callbacks.pseudo_labels.proposals import Proposals
from datamodules.content import ContentBox
from datamodules.refusal import UserError


class BrightestBlobBaseline:
    """Takes the smoothed picture for a heat map: its highest local maxima are the peaks, and boxes are those of the method it is compared with.

    A box's score is the smoothed intensity as a share of what the data type holds (255 of uint8),
    not of the picture's own maximum: every picture would have a first box of score 1 then, and the
    FROC could not tell pictures apart. Bright is what counts, as in a bone scan.

    ```yaml
    brightest_blob: {_target_: callbacks.pseudo_labels.baselines.BrightestBlobBaseline, sigma: 4, boxes:
        {...}}
    ```

    Args:
        sigma: Of the Gaussian, in pixels of the image it is given.
        boxes: How peaks become boxes; by default as of heat maps, but for the least height of a
            peak: beside a full bladder it would drop the rest.

    Raises:
        Refusal: sigma is not above 0.
    """

    def __init__(self, sigma: float = 4.0, boxes: PeakBoxes | None = None) -> None:
        if not sigma > 0:
            raise UserError(
                f"the brightest blob has sigma={sigma}, which is not a number of pixels above 0;"
                " write sigma=4, for instance"
            )
        self.sigma, self.boxes = sigma, boxes or PeakBoxes(threshold_rel=0.0)

    def __call__(self, image: np.ndarray, content: ContentBox | None = None) -> Proposals:
        """Peaks and boxes in pixels of the image; none of an even picture.

        Args:
            image: Grey, `H x W` of whole numbers or of floats in 0..1.
            content: The picture's place on it, where it is a canvas; None if it is all of it.

        Raises:
            ValueError: an image with colours.
        """
        if image.ndim != 2:
            raise ValueError(f"the image is {image.shape}; give one grey image, height x width")
        content = content or ContentBox(0, 0, *image.shape)
        rows, columns = (
            slice(content.top, content.top + content.height),
            slice(content.left, content.left + content.width),
        )
        picture = img_as_float32(image[rows, columns])
        smooth = np.zeros(image.shape, np.float32)
        if np.ptp(picture):  # rounding would make blobs of an even one
            smooth[rows, columns] = gaussian(picture, self.sigma, mode="nearest")
        return self.boxes(smooth, content)
