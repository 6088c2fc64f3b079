"""Anatomy of one phantom patient's chest."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Patient:
    """Properties that all images of one patient share.

    Lengths are in cm, strengths are shares of the chest's own absorption.

    Attributes:
        half_width: Half the rib cage's inner width.
        height: From the lungs' tops to the costophrenic angles.
        wall: How early the lungs reach their full width; larger is squarer.
        mediastinum: Half width of what lies between the lungs.
        heart: Cardiothoracic ratio without "enlarged_heart".
        heart_shift: How far the heart's middle lies towards the patient's left.
        dome: Height of the diaphragm's arch.
        rib_spacing: From one rib to the next.
        rib_slope: How far a rib drops from the spine to the side.
        rib_strength: Absorption of a rib.
        clavicle: How far a clavicle rises from the middle to the shoulder.
        bend: Scoliosis, how far the spine leaves the midline.
        tissue: Thickness of the soft tissue around the rib cage.
        breast: Absorption of a breast shadow, 0 for none.
        air: How much less the lungs absorb than the rest.
        vessels: Seed of the vessel tree.
    """

    half_width: float
    height: float
    wall: float
    mediastinum: float
    heart: float
    heart_shift: float
    dome: float
    rib_spacing: float
    rib_slope: float
    rib_strength: float
    clavicle: float
    bend: float
    tissue: float
    breast: float
    air: float
    vessels: int
