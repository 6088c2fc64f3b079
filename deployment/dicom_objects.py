"""DICOM objects of a prediction: a Segmentation (SEG) and a structured report (SR) of one film.

Both belong to the film's study and name the film by its SOPInstanceUID. Patient and study identity
are copied from the film, and what the objects need of its geometry; no other element is.

Unique identifiers follow from the content: the same prediction of the same film by the same model
has the same SOPInstanceUID, so that an archive keeps it once; another mask or rule has another.

Formats: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_A.51.html (SEG),
https://dicom.nema.org/medical/dicom/current/output/chtml/part16/chapter_A.html (TID 1500).
"""

import hashlib
import io
import re
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from pydicom import Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, validate_value

from datamodules.errors import ManifestError, UserError
from datamodules.formats.atomic_write import atomic_write
from datamodules.formats.dicom import read_dicom_elements, read_dicom_spacing

FILM_REFERENCE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
FILM_IDENTITY = (
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber"),
)
OPTIONAL_IDENTITY = ("IssuerOfPatientID",)  # every other one is written, empty if the film lacks it
FILM_PLANE = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient")
FILM_COMPRESSION = (
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
FILM_GEOMETRY = (
    *("Rows", "Columns", "NumberOfFrames", "PatientOrientation", "PixelSpacing", "SliceThickness"),
    *(*FILM_PLANE, *FILM_COMPRESSION),
)
SEXES = ("M", "F", "O")
UID_TEXT = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)+")
DIRECTION_TEXT = re.compile(r"[LRAPHF]{1,3}")  # of a row or column: left, right, anterior, ...
AXIS_TOLERANCE = 1e-3  # by which rows and columns may miss a right angle, or unit length
MAX_LONG_STRING = 64  # characters of an element of the type LO
MAX_SEGMENTS = 65_535  # SegmentNumber has 16 bits
PROBABILITY_DIGITS = 4  # PyTorch and onnxruntime differ by some 1e-7
NOMINAL_THICKNESS = 1.0  # mm; highdicom reads no spacing without one, and a projection has none
MANUFACTURER = "medical-lightning (open source)"
RESEARCH_NOTICE = (
    "Output of research software, computed without review by a person. It is not a medical device"
    " and not a diagnosis."
)


class PropertyCodes(NamedTuple):
    """Codes of a finding; each is `(value, coding scheme, meaning)`.

    Attributes:
        category: Segmented property category, see DICOM CID 7150.
        type: Segmented property type, see DICOM CID 7151.
    """

    category: tuple[str, str, str] = ("49755003", "SCT", "Morphologically Abnormal Structure")
    type: tuple[str, str, str] = ("52988006", "SCT", "Lesion")


@dataclass(frozen=True)
class DicomAlgorithm:
    """Identity of a model in DICOM objects; elements hold 64 characters, longer texts are cut.

    Attributes:
        name: Name of the model, such as that of its experiment.
        version: Version of the software that ran it.
        digest: Hash of its weights, which tells two trainings of one name apart.
    """

    name: str
    version: str
    digest: str = ""


@dataclass(frozen=True)
class ClassFinding:
    """Finding of one class in an image.

    Attributes:
        name: Name of the class.
        probability: Probability of the class in the image, 0 to 1.
        positive: True if the decision rule calls the image positive.
    """

    name: str
    probability: float
    positive: bool


def write_segmentation(
    film: Path,
    masks: np.ndarray,
    classes: Sequence[str],
    path: Path,
    *,
    algorithm: DicomAlgorithm,
    codes: Mapping[str, PropertyCodes] | None = None,
) -> Path:
    """Write the masks of one film as a DICOM Segmentation of the type BINARY.

    Every class is one segment with one frame, also a class without a pixel: the file then states
    that nothing was found, which differs from a class that was not searched.
    The pixel matrix is that of the film, which is not turned; PatientOrientation is copied.

    Args:
        film: DICOM that the masks were predicted on, with one frame.
        masks: Bool `classes x H x W` at the film's own size.
        classes: Names of the classes, which become SegmentLabel.
        path: File to write.
        algorithm: Identity of the model.
        codes: Codes of classes by name; a class without codes is a lesion.

    Returns:
        `path`.

    Raises:
        UserError: highdicom is missing, or a class has no valid name.
        ManifestError: The film cannot be referred to, see `read_film_header`; has another size
            than the masks; or is a slice (CT, MR) without a complete position in space.
    """
    highdicom = import_highdicom("A DICOM Segmentation")
    _check_class_names(classes)
    header = read_film_header(film)
    _check_masks(film, header, masks, classes)
    kinds = [_codes_of(name, codes) for name in classes]
    content = [np.packbits(masks).tobytes(), repr((list(classes), kinds)).encode()]
    segments = [
        _describe_segment(highdicom, number, name, kind, header, algorithm)
        for number, (name, kind) in enumerate(zip(classes, kinds, strict=True), start=1)
    ]
    with _name_film(film):
        made = highdicom.seg.Segmentation(
            source_images=[header],
            pixel_array=masks.astype(np.uint8).transpose(1, 2, 0)[None],
            segmentation_type="BINARY",
            segment_descriptions=segments,
            pixel_measures=_pixel_measures(highdicom, header),
            omit_empty_frames=False,
            content_label="SEGMENTATION",
            content_description="Output of research software",
            **_common_elements("SEG", header, algorithm, content),
        )
    if "FrameOfReferenceUID" not in header:  # highdicom leaves it out, and the standard asks for it
        made.PatientOrientation = header.PatientOrientation
    _fix_dimension_uid(made, _derive_uid("dimensions", str(made.SOPInstanceUID)))
    return _write_object(made, path)


def write_report(
    film: Path,
    findings: Sequence[ClassFinding],
    rule: str,
    path: Path,
    *,
    algorithm: DicomAlgorithm,
    codes: Mapping[str, PropertyCodes] | None = None,
) -> Path:
    """Write the findings of one film as a structured report (Comprehensive SR, TID 1500).

    Each class is a measurement group with its name (Tracking Identifier, with the same unique
    identifier as its segment in `write_segmentation`), its probability (DCM 122157), the decision
    as present or absent, and the rule as a parameter of the algorithm. The report is marked as
    unverified output of research software.

    Args:
        film: DICOM that was predicted.
        findings: One per class.
        rule: Decision rule in words, such as "probability >= 0.42".
        path: File to write.
        algorithm: Identity of the model.
        codes: Codes of classes by name; a class without codes is a lesion.

    Returns:
        `path`.

    Raises:
        UserError: highdicom is missing, or a class has no valid name or probability.
        ManifestError: The film cannot be referred to, see `read_film_header`.
    """
    highdicom = import_highdicom("A DICOM report")
    _check_class_names([finding.name for finding in findings])
    _check_probabilities(findings)
    header = read_film_header(film)
    kinds = [_codes_of(finding.name, codes) for finding in findings]
    decided = [(each.name, _rounded(each), bool(each.positive)) for each in findings]
    groups = [
        _measurement_group(highdicom, finding, kind, rule, header, algorithm)
        for finding, kind in zip(findings, kinds, strict=True)
    ]
    made = highdicom.sr.ComprehensiveSR(
        evidence=[header],
        content=_report_content(highdicom, groups, algorithm),
        is_complete=True,
        **_common_elements("SR", header, algorithm, [repr((decided, kinds, rule)).encode()]),
    )
    return _write_object(made, path)


def _rounded(finding: ClassFinding) -> float:
    """Return the probability with the digits that a run and its bundle have in common."""
    return round(float(finding.probability), PROBABILITY_DIGITS)


def read_film_header(film: Path) -> Dataset:
    """Read the elements of a film that DICOM objects made from it need, and no others.

    Elements of patient and study that a film lacks are empty, and so are those that are not legal,
    such as a 40th of January; but a PatientID that is not legal is refused. A position in space
    that is incomplete is left out.

    Raises:
        ManifestError: The file is no DICOM; has several frames, or no image; lacks one of the
            identifiers that a reference needs; or has a PatientID that is not legal.
    """
    read = read_dicom_elements(film, [*FILM_REFERENCE, *FILM_IDENTITY, *FILM_GEOMETRY])
    header = Dataset()
    for keyword in FILM_REFERENCE:
        setattr(header, keyword, _reference_uid(film, read, keyword))
    for keyword in FILM_IDENTITY:
        _copy_identity(film, read, header, keyword)
    _check_film_image(film, read)
    header.Rows, header.Columns = int(read.Rows), int(read.Columns)
    _copy_directions(read, header)
    _copy_spacing(film, read, header)
    _copy_plane(read, header)
    _copy_compression(read, header)
    return header


def _copy_directions(read: Dataset, header: Dataset) -> None:
    """Copy PatientOrientation; it is empty if the film does not say how it lies."""
    found = list(_values(read, "PatientOrientation"))
    legal = len(found) == 2 and all(DIRECTION_TEXT.fullmatch(str(value)) for value in found)
    header.PatientOrientation = found if legal else None


def _copy_spacing(film: Path, read: Dataset, header: Dataset) -> None:
    """Copy PixelSpacing if the film has it.

    ImagerPixelSpacing is not taken in its place, because a viewer would measure lesions with it,
    and it is the spacing on the detector, where the body is magnified.
    """
    spacing = read_dicom_spacing(film)
    if spacing is not None:
        header.PixelSpacing = list(spacing)
        thickness = _numbers(read, "SliceThickness", 1)
        usable = thickness is not None and thickness[0] > 0
        header.SliceThickness = thickness[0] if thickness and usable else NOMINAL_THICKNESS


def _copy_plane(read: Dataset, header: Dataset) -> None:
    """Copy the plane of an image in space, such as that of a CT, if the film has all of it."""
    position = _numbers(read, "ImagePositionPatient", 3)
    axes = np.reshape(_numbers(read, "ImageOrientationPatient", 6) or np.zeros(6), (2, 3))
    orthonormal = np.allclose(axes @ axes.T, np.eye(2), atol=AXIS_TOLERANCE)
    frame = str(read.get("FrameOfReferenceUID") or "")
    if position and orthonormal and UID_TEXT.fullmatch(frame) and "PixelSpacing" in header:
        for keyword in FILM_PLANE:
            header[keyword] = read[keyword]


def _copy_compression(read: Dataset, header: Dataset) -> None:
    """Copy that a film was compressed with a loss, which every image made from it must say."""
    if read.get("LossyImageCompression") == "01":
        for keyword in FILM_COMPRESSION:
            if read.get(keyword):
                header[keyword] = read[keyword]


def _values(read: Dataset, keyword: str) -> Sequence[Any]:
    """Return the values of an element, none of which may be there."""
    found = read.get(keyword)
    if isinstance(found, MultiValue):
        return list(found)
    return [] if found in (None, "") else [found]


def _numbers(read: Dataset, keyword: str, count: int) -> list[float] | None:
    """Return the numbers of an element; None if it has another count, or one is not finite."""
    try:
        found = [float(value) for value in _values(read, keyword)]
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and bool(np.isfinite(found).all()) else None


def _reference_uid(film: Path, read: Dataset, keyword: str) -> str:
    value = str(read.get(keyword) or "")
    if not UID_TEXT.fullmatch(value):
        wrong = f"has the {keyword} '{value}', which is no identifier" if value else None
        raise ManifestError(
            f"{film} {wrong or f'has no {keyword}'}, and a DICOM object refers to its film by it;"
            " export the film from its archive again"
        )
    return value


def _copy_identity(film: Path, read: Dataset, header: Dataset, keyword: str) -> None:
    """Copy one element of patient or study; it is empty if it is missing or not legal."""
    value = "\\".join(map(str, _values(read, keyword))).strip()
    if not value and keyword in OPTIONAL_IDENTITY:
        return
    if not _is_legal(keyword, value):
        if keyword == "PatientID":
            raise ManifestError(
                f"{film} has a PatientID that is not legal ({len(value)} characters), so that its"
                " objects would belong to nobody; correct it in the archive"
            )
        value = ""
    setattr(header, keyword, value)


def _is_legal(keyword: str, value: str) -> bool:
    """Return True if an element of one value may hold a text."""
    kind = dictionary_VR(keyword)
    try:
        validate_value(kind, value, RAISE)
        if kind == "DA":
            DA(value)  # the 40th of a month passes validate_value
    except ValueError:
        return False
    return "\\" not in value and (keyword != "PatientSex" or value in ("", *SEXES))


def _check_film_image(film: Path, read: Dataset) -> None:
    if not read.get("Rows") or not read.get("Columns"):
        raise ManifestError(
            f"{film} has no Rows and Columns, it holds no image; choose the film itself"
        )
    frames = int(read.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ManifestError(
            f"{film} holds {frames} frames, and DICOM objects are made of films of one frame; write"
            " every frame as its own file"
        )


def _check_masks(film: Path, header: Dataset, masks: np.ndarray, classes: Sequence[str]) -> None:
    if masks.dtype != bool or masks.ndim != 3:
        raise ValueError(f"masks must be bool classes x H x W, got {masks.dtype} {masks.shape}")
    if len(masks) != len(classes):
        raise UserError(
            f"{film}: there are {len(masks)} masks and {len(classes)} names of classes; name every"
            " mask"
        )
    size = int(header.Rows), int(header.Columns)
    if masks.shape[1:] != size:
        raise ManifestError(
            f"{film} has {size[0]} x {size[1]} pixels, and its masks {masks.shape[1]} x"
            f" {masks.shape[2]}; predict masks at the film's own size"
        )


def _check_class_names(names: Sequence[str]) -> None:
    """Refuse names that an element of the type LO cannot hold, or that are not unique."""
    if not 1 <= len(names) <= MAX_SEGMENTS:
        raise UserError(
            f"a DICOM object has 1 to {MAX_SEGMENTS} classes, got {len(names)}; write several"
        )
    for name in names:
        legal = name.strip() and name.isprintable() and "\\" not in name
        if not legal or len(name) > MAX_LONG_STRING:
            raise UserError(
                f"the class name '{name}' cannot stand in a DICOM, which takes 1 to"
                f" {MAX_LONG_STRING} printable characters without a backslash; rename the class"
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise UserError(f"the class name '{twice}' occurs twice; give every class its own name")


def _check_probabilities(findings: Iterable[ClassFinding]) -> None:
    for finding in findings:
        if not 0 <= finding.probability <= 1:  # NaN does not pass either
            raise UserError(
                f"the probability of '{finding.name}' must be in [0, 1], got"
                f" {finding.probability}; check the prediction"
            )


def _codes_of(name: str, codes: Mapping[str, PropertyCodes] | None) -> PropertyCodes:
    return (codes or {}).get(name, PropertyCodes())


def import_highdicom(what: str) -> ModuleType:
    """Import the package that writes DICOM objects.

    Args:
        what: What needs it, for the message.

    Raises:
        UserError: It is not installed; the message names the extra.
    """
    try:
        import highdicom.seg
        import highdicom.sr
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise UserError(
            f"{what} needs the package {package}; install it with: pip install {package}, or in a"
            " clone of medical-lightning with: uv sync --extra deploy"
        ) from error
    # its doubts about a name would print the name of the patient
    warnings.filterwarnings("ignore", r"The string .* is unlikely to represent", UserWarning)
    return highdicom


@contextmanager
def _name_film(film: Path) -> Iterator[None]:
    """Convert highdicom's errors into one that names the film, such as a CT without a position."""
    try:
        yield
    except (ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise ManifestError(
            f"{film} lacks what a Segmentation takes from it ({reason}); complete the film in its"
            " archive, or write a report alone"
        ) from error


def _derive_uid(*parts: str | bytes) -> str:
    """Return an identifier below 2.25 that follows from the parts (PS3.5, B.2)."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, digest.hexdigest()).int}"


def _model_parts(algorithm: DicomAlgorithm) -> tuple[str, str, str]:
    return algorithm.name, algorithm.version, algorithm.digest


def _tracking_uid(header: Dataset, algorithm: DicomAlgorithm, name: str) -> str:
    return _derive_uid("finding", header.SOPInstanceUID, *_model_parts(algorithm), name)


def _cut(text: str, missing: str) -> str:
    """Return a text that an element of the type LO can hold."""
    legal = "".join(c if c.isprintable() and c != "\\" else " " for c in text).strip()
    return legal[:MAX_LONG_STRING].strip() or missing


def _common_elements(
    modality: str, header: Dataset, algorithm: DicomAlgorithm, content: Sequence[bytes]
) -> dict[str, Any]:
    """Return the arguments that highdicom's SEG and SR share: identifiers and equipment.

    Text is UTF-8, because names of classes may have letters that the film's character set lacks.
    """
    film, model = str(header.SOPInstanceUID), _model_parts(algorithm)
    what = {"SEG": "segmentation", "SR": "report"}[modality]
    return {
        "series_instance_uid": _derive_uid(modality, "series", film, *model),
        "series_number": {"SEG": 9001, "SR": 9002}[modality],
        "sop_instance_uid": _derive_uid(modality, film, *model, *content),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": _cut(algorithm.name, "unnamed"),
        "software_versions": _cut(algorithm.version, "unknown"),
        "device_serial_number": _cut(algorithm.digest, "unknown"),
        "series_description": _cut(f"Research {what}: {algorithm.name}", ""),
        "content_qualification": "RESEARCH",
        "specific_character_set": "ISO_IR 192",
    }


def _describe_segment(
    highdicom: ModuleType,
    number: int,
    name: str,
    kind: PropertyCodes,
    header: Dataset,
    algorithm: DicomAlgorithm,
) -> Any:
    from pydicom.sr.coding import Code

    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=Code(*kind.category),
        segmented_property_type=Code(*kind.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=_cut(algorithm.name, "unnamed"),
            family=Code("123110", "DCM", "Artificial Intelligence"),
            version=_cut(algorithm.version, "unknown"),
        ),
        tracking_uid=_tracking_uid(header, algorithm, name),
        tracking_id=name,
    )


def _pixel_measures(highdicom: ModuleType, header: Dataset) -> Any:
    """Return the spacing of the pixels; None if the film has none."""
    if "PixelSpacing" not in header:
        return None
    return highdicom.PixelMeasuresSequence(header.PixelSpacing, header.SliceThickness)


def _fix_dimension_uid(made: Dataset, uid: str) -> None:
    """Replace highdicom's random identifier, so that equal predictions are equal files."""
    made.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    for item in made.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid


def _measurement_group(
    highdicom: ModuleType,
    finding: ClassFinding,
    kind: PropertyCodes,
    rule: str,
    header: Dataset,
    algorithm: DicomAlgorithm,
) -> Any:
    """Return the probability and the decision of one class as TID 1501."""
    from pydicom.sr.coding import Code

    sr = highdicom.sr
    present = ("52101004", "SCT", "Present"), ("272519000", "SCT", "Absent")
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=_tracking_uid(header, algorithm, finding.name), identifier=finding.name
        ),
        finding_category=Code(*kind.category),
        finding_type=Code(*kind.type),
        algorithm_id=sr.AlgorithmIdentification(
            name=_cut(algorithm.name, "unnamed"),
            version=_cut(algorithm.version, "unknown"),
            parameters=[f"decision rule: {rule}"],
        ),
        measurements=[
            sr.Measurement(
                name=Code("122157", "DCM", "Probability"),
                value=_rounded(finding),
                unit=Code("1", "UCUM", "no units"),
            )
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                name=Code("705057003", "SCT", "Presence"),
                value=Code(*present[0 if finding.positive else 1]),
            )
        ],
        source_images=[
            sr.SourceImageForMeasurementGroup(
                referenced_sop_class_uid=str(header.SOPClassUID),
                referenced_sop_instance_uid=str(header.SOPInstanceUID),
            )
        ],
    )


def _report_content(
    highdicom: ModuleType, groups: Sequence[Any], algorithm: DicomAlgorithm
) -> Dataset:
    """Return the document tree: the model as the observer, the findings, and the notice."""
    from pydicom.sr.coding import Code

    sr = highdicom.sr
    observer = sr.ObserverContext(
        observer_type=Code("121007", "DCM", "Device"),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=_derive_uid("device", *_model_parts(algorithm)),
            name=_cut(algorithm.name, "unnamed"),
            manufacturer_name=MANUFACTURER,
        ),
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=Code("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=groups,
        title=Code("126000", "DCM", "Imaging Measurement Report"),
    )
    notice = sr.TextContentItem(
        name=Code("121106", "DCM", "Comment"), value=RESEARCH_NOTICE, relationship_type="CONTAINS"
    )
    report[0].ContentSequence.append(notice)
    return report[0]


def _write_object(made: Dataset, path: Path) -> Path:
    content = io.BytesIO()
    made.save_as(content, enforce_file_format=True)
    atomic_write(path, content.getvalue())
    return path
