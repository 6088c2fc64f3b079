"""Tests of DICOM objects: masks read back by other readers, identity, validity, refusals."""

import subprocess
import sys

import numpy as np
import pytest
from pydicom import dcmread

from datamodules.errors import UserError
from datamodules.formats.dicom_seg import DicomSegmentations
from datamodules.formats.image_io import read_image
from datamodules.formats.layout import FolderTree, LayoutOptions
from datamodules.formats.rle import decode_rle
from datamodules.loading.letterbox import Letterbox
from deployment.dicom_objects import (
    ClassFinding,
    DicomAlgorithm,
    PropertyCodes,
    write_report,
    write_segmentation,
)
from tests.factories.films import GRAYS, draw_masks, write_film
from tests.factories.optional import find_program, import_optional

NAMES = ["effusion", "mass", "nodule", "pneumothorax"]
NET = DicomAlgorithm("unetpp", "0.2.0", "9f86d081")
RULE = "probability >= 0.42"
FINDINGS = [ClassFinding("effusion", 0.875, True), ClassFinding("mass", 0.0625, False)]
PNEUMOTHORAX = PropertyCodes(
    ("49755003", "SCT", "Morphologically Abnormal Structure"), ("36118008", "SCT", "Pneumothorax")
)
ORIENTATIONS = (["L", "F"], ["P", "F"], ["R", "H"], "")


@pytest.fixture(autouse=True)
def _highdicom():
    import_optional("highdicom")


@pytest.fixture
def film(tmp_path):
    return write_film(tmp_path / "film.dcm", draw_masks((37, 23), 2, seed=4))


def predicted(film, classes):
    """Return the masks that a perfect network would predict from the film as it is shown."""
    shown = read_image(film, 1)[..., 0]
    return np.stack([shown == gray for gray in GRAYS[:classes]])


def through_letterbox(masks):
    """Return masks that were on a canvas; at 4 canvas pixels a pixel the way back is exact."""
    letterbox = Letterbox(*masks.shape[1:], 512)
    on_canvas = letterbox.mask(masks.transpose(1, 2, 0).astype(np.uint8)).transpose(2, 0, 1)
    return np.stack([letterbox.mask_back(mask) for mask in on_canvas]).astype(bool)


def by_pydicom(path, classes):
    """Return the masks by the numbers of their segments, from the elements of the standard."""
    dataset = dcmread(path)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    masks = np.zeros((classes, dataset.Rows, dataset.Columns), bool)
    shared = dataset.SharedFunctionalGroupsSequence[0].get("SegmentIdentificationSequence")
    for groups, frame in zip(dataset.PerFrameFunctionalGroupsSequence, frames, strict=True):
        item = groups.get("SegmentIdentificationSequence", shared)[0]
        masks[item.ReferencedSegmentNumber - 1] |= frame > 0
    return masks


def by_highdicom(path, film_uid):
    segmentation = import_optional("highdicom.seg").segread(path)
    pixels = segmentation.get_pixels_by_source_instance([film_uid])
    return pixels[0].transpose(2, 0, 1).astype(bool)


def by_this_project(folder, names):
    """Return the masks of the only film of a folder."""
    content = DicomSegmentations().read(FolderTree(folder), LayoutOptions())
    record = content.records[0]
    assert record.annotated
    rles = {outline.name: outline.rle for outline in record.outlines}
    size = next(iter(dcmread(path) for path in folder.glob("film.dcm")))
    masks = decode_rle([rles.get(name) for name in names], size.Rows, size.Columns)
    return masks.transpose(2, 0, 1).astype(bool)


def check_round_trip(folder, seed):
    rng = np.random.default_rng(seed)
    size = tuple(int(side) for side in rng.integers(9, 120, 2))
    names = NAMES[: int(rng.integers(1, 5))]
    drawn = draw_masks(size, len(names), seed)
    film = write_film(
        folder / "film.dcm",
        drawn,
        seed,
        PhotometricInterpretation=f"MONOCHROME{1 + seed % 2}",
        PatientOrientation=ORIENTATIONS[seed % 4],
        **{"PixelSpacing": [0.2, 0.15]} if seed % 3 else {},
    )
    masks = through_letterbox(predicted(film, len(names)))
    path = write_segmentation(film, masks, names, folder / "seg.dcm", algorithm=NET)
    assert np.array_equal(by_pydicom(path, len(names)), drawn)
    assert np.array_equal(by_highdicom(path, dcmread(film).SOPInstanceUID), drawn)
    assert np.array_equal(by_this_project(folder, names), drawn)


@pytest.mark.parametrize("seed", range(8))
def test_masks_survive_in_three_readers(seed, tmp_path):
    check_round_trip(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8, 100))
def test_masks_of_further_phantoms_survive(seed, tmp_path):
    check_round_trip(tmp_path, seed)


def test_nothing_found_is_stated_by_one_empty_frame_per_class(film, tmp_path):
    empty = np.zeros((2, 37, 23), bool)
    path = write_segmentation(film, empty, NAMES[:2], tmp_path / "seg.dcm", algorithm=NET)
    dataset = dcmread(path)
    assert [item.SegmentLabel for item in dataset.SegmentSequence] == NAMES[:2]
    assert dataset.NumberOfFrames == 2
    assert not by_highdicom(path, dcmread(film).SOPInstanceUID).any()
    assert not by_this_project(tmp_path, NAMES[:2]).any()


def test_an_empty_class_beside_another_has_its_frame(film, tmp_path):
    masks = predicted(film, 2) & np.array([True, False])[:, None, None]
    path = write_segmentation(film, masks, NAMES[:2], tmp_path / "seg.dcm", algorithm=NET)
    assert masks[0].any() and dcmread(path).NumberOfFrames == 2
    assert np.array_equal(by_pydicom(path, 2), masks)


def test_names_in_any_script_are_written(film, tmp_path):
    masks = predicted(film, 1)
    path = write_segmentation(film, masks, ["πνευμοθώρακας"], tmp_path / "s.dcm", algorithm=NET)
    assert dcmread(path).SegmentSequence[0].SegmentLabel == "πνευμοθώρακας"
    finding = ClassFinding("气胸", 0.5, True)
    path = write_report(film, [finding], "Wahrscheinlichkeit ≥ ½", tmp_path / "r", algorithm=NET)
    report = dcmread(path)
    assert content_items(report, "Tracking Identifier")[0].TextValue == "气胸"
    assert content_items(report, "Algorithm Parameters")[0].TextValue.endswith("≥ ½")


def write_both(film, folder, algorithm=NET, masks=None, findings=FINDINGS, **more):
    masks = predicted(film, 2) if masks is None else masks
    names = [finding.name for finding in findings]
    return (
        write_segmentation(film, masks, names, folder / "seg.dcm", algorithm=algorithm, **more),
        write_report(film, findings, RULE, folder / "sr.dcm", algorithm=algorithm, **more),
    )


def test_identity_is_copied_and_nothing_else(tmp_path):
    secret = {
        keyword: "secret"
        for keyword in (
            *("InstitutionName", "StudyDescription", "PatientComments", "OtherPatientIDs"),
            *("Manufacturer", "OperatorsName", "ReferringPhysicianName", "ProtocolName"),
            *("PatientAddress", "BodyPartExamined", "DeviceSerialNumber"),
        )
    }
    with_more = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"} | secret
    film = write_film(
        tmp_path / "film.dcm", draw_masks((20, 21), 2, 1), IssuerOfPatientID="clinic", **with_more
    )
    source = dcmread(film)
    for path in write_both(film, tmp_path):
        assert b"secret" not in path.read_bytes()
        made = dcmread(path)
        assert str(made.PatientName) == "Müller^Jörg"
        for keyword in (
            *("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
            *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber"),
        ):
            assert made[keyword].value == source[keyword].value
        assert made.SeriesInstanceUID != source.SeriesInstanceUID
        assert made.SoftwareVersions == "0.2.0" and made.ContentQualification == "RESEARCH"


def test_references_name_the_film(film, tmp_path):
    segmentation, report = map(dcmread, write_both(film, tmp_path))
    source = dcmread(film)
    series = segmentation.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert (
        series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
        == segmentation.SourceImageSequence[0].ReferencedSOPInstanceUID
        == source.SOPInstanceUID
    )
    study = report.CurrentRequestedProcedureEvidenceSequence[0]
    assert study.StudyInstanceUID == source.StudyInstanceUID
    evidence = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert evidence.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert evidence.ReferencedSOPClassUID == source.SOPClassUID


def content_items(item, name):
    """Return the content items of a report whose concept has a meaning."""
    found = [
        each
        for each in item.get("ContentSequence") or ()
        if each.ConceptNameCodeSequence[0].CodeMeaning == name
    ]
    below = [content_items(each, name) for each in item.get("ContentSequence") or ()]
    return found + [each for group in below for each in group]


def test_report_states_probability_decision_and_rule(film, tmp_path):
    segmentation, report = map(dcmread, write_both(film, tmp_path))
    groups = content_items(report, "Measurement Group")
    stated = [
        (
            content_items(group, "Tracking Identifier")[0].TextValue,
            float(content_items(group, "Probability")[0].MeasuredValueSequence[0].NumericValue),
            content_items(group, "Presence")[0].ConceptCodeSequence[0].CodeMeaning,
            content_items(group, "Algorithm Parameters")[0].TextValue,
        )
        for group in groups
    ]
    rule = f"decision rule: {RULE}"
    assert stated == [("effusion", 0.875, "Present", rule), ("mass", 0.0625, "Absent", rule)]
    segments = [item.TrackingUID for item in segmentation.SegmentSequence]
    assert [content_items(g, "Tracking Unique Identifier")[0].UID for g in groups] == segments
    assert "not a diagnosis" in content_items(report, "Comment")[0].TextValue
    assert report.VerificationFlag == "UNVERIFIED"


def test_codes_of_a_class_are_written(film, tmp_path):
    segmentation, report = map(dcmread, write_both(film, tmp_path, codes={"mass": PNEUMOTHORAX}))
    types = [i.SegmentedPropertyTypeCodeSequence[0] for i in segmentation.SegmentSequence]
    assert [code.CodeValue for code in types] == ["52988006", "36118008"]
    found = [item.ConceptCodeSequence[0].CodeValue for item in content_items(report, "Finding")]
    assert found == ["52988006", "36118008"]


def without_times(path):
    """Return the elements of a DICOM as text, without those of the moment of writing."""
    dataset = dcmread(path)
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime"):
        del dataset[keyword]
    del dataset.ContributingEquipmentSequence
    return str(dataset) + str(dataset.file_meta)


def test_same_prediction_is_the_same_instance(film, tmp_path):
    first = [without_times(path) for path in write_both(film, tmp_path / "first")]
    again = [without_times(path) for path in write_both(film, tmp_path / "again")]
    assert first == again


def changed_model(film):
    return {"algorithm": DicomAlgorithm("unetpp", "0.2.0", "another")}


def changed_prediction(film):
    masks = predicted(film, 2)
    masks[0, 0, 0] ^= True
    return {"masks": masks, "findings": [ClassFinding("effusion", 0.874, True), FINDINGS[1]]}


@pytest.mark.parametrize("change", [changed_model, changed_prediction])
def test_another_prediction_is_another_instance(change, film, tmp_path):
    first = [dcmread(path).SOPInstanceUID for path in write_both(film, tmp_path / "first")]
    other = write_both(film, tmp_path / "other", **change(film))
    assert not {*first} & {dcmread(path).SOPInstanceUID for path in other}


PLANE = {
    "FrameOfReferenceUID": "1.2.826.0.9",
    "ImagePositionPatient": [-10, 5, 2.5],
    "ImageOrientationPatient": [1, 0, 0, 0, 0.6, 0.8],
    "PixelSpacing": [0.7, 0.7],
    "SliceThickness": 3,
    "PatientOrientation": None,
}
CT = PLANE | {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"}
KINDS = {
    "plain": {},
    "empty orientation": {"PatientOrientation": ""},
    "no orientation": {"PatientOrientation": None},
    "lateral, MONOCHROME1": {
        "PatientOrientation": ["P", "F"],
        "PhotometricInterpretation": "MONOCHROME1",
        "PixelSpacing": [0.143, 0.139],
    },
    "lossy": {"LossyImageCompression": "01", "LossyImageCompressionMethod": "ISO_10918_1"},
    "space without a position": {"FrameOfReferenceUID": "1.2.3"},
    "no lossy": {"LossyImageCompression": "YES"},
    "spacing of zero": PLANE | {"PixelSpacing": [0, 0]},
    "one spacing": {"PixelSpacing": 0.5},
    "position of two numbers": PLANE | {"ImagePositionPatient": [1, 2]},
    "axes that are parallel": PLANE | {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
    "space without a name": PLANE | {"FrameOfReferenceUID": "abc"},
    "orientation in words": {"PatientOrientation": ["left", "foot"]},
    "orientation of one axis": {"PatientOrientation": "L"},
    "Japanese name": {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    },
    "CT": CT,
    "CT without a thickness": CT | {"SliceThickness": None},
    "no patient": {"PatientID": None, "PatientName": None, "PatientBirthDate": None},
    "illegal values": {
        "PatientSex": "W",
        "PatientBirthDate": "19501340",
        "StudyTime": "noon",
        "StudyID": "a study with a long name",
    },
    "no study elements": {"StudyID": None, "StudyDate": None, "AccessionNumber": None},
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # pydicom's, of the illegal values
@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_and_dcmdump_accept_them(kind, tmp_path):
    dciodvfy = find_program("dciodvfy", "dicom3tools")
    dcmdump = find_program("dcmdump", "dcmtk")
    film = write_film(tmp_path / "film.dcm", draw_masks((37, 23), 2, seed=4), **KINDS[kind])
    for path in write_both(film, tmp_path):
        checked = subprocess.run([dciodvfy, path], capture_output=True, text=True)
        said = checked.stdout + checked.stderr
        assert not [line for line in said.splitlines() if line.startswith("Error")], said
        assert path.name == "sr.dcm" or "Segmentation" in said
        subprocess.run([dcmdump, "+E", path], check=True, capture_output=True)


def test_dcmtk_renders_the_report(film, tmp_path):
    dsrdump = find_program("dsrdump", "dcmtk")
    path = write_both(film, tmp_path)[1]
    done = subprocess.run([dsrdump, "+Pl", path], check=True, capture_output=True, text=True)
    assert RULE in done.stdout and '"0.875"' in done.stdout and "not a diagnosis" in done.stdout


def test_spacing_and_orientation_are_those_of_the_film(tmp_path):
    masks = draw_masks((20, 31), 2, 3)
    film = write_film(
        tmp_path / "film.dcm", masks, PixelSpacing=[0.25, 0.5], PatientOrientation=["P", "F"]
    )
    made = dcmread(write_both(film, tmp_path)[0])
    shared = made.SharedFunctionalGroupsSequence[0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.25, 0.5]
    assert list(made.PatientOrientation) == ["P", "F"]


def test_slice_lies_where_its_image_does(tmp_path):
    masks = draw_masks((20, 31), 2, 3)
    film = write_film(tmp_path / "film.dcm", masks, **CT)
    made = dcmread(write_both(film, tmp_path)[0])
    assert made.FrameOfReferenceUID == CT["FrameOfReferenceUID"]
    shared = made.SharedFunctionalGroupsSequence[0]
    plane = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert list(plane) == CT["ImageOrientationPatient"]
    for groups in made.PerFrameFunctionalGroupsSequence:
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        assert list(position) == CT["ImagePositionPatient"]
    assert np.array_equal(by_this_project(tmp_path, ["effusion", "mass"]), masks)


def test_spacing_of_the_detector_is_not_written(tmp_path):
    film = write_film(tmp_path / "film.dcm", draw_masks((20, 31), 2, 3), ImagerPixelSpacing=[1, 1])
    made = dcmread(write_both(film, tmp_path)[0])
    assert "PixelSpacing" not in str(made)


def test_bare_film_without_preamble_and_meta_header(tmp_path):
    masks = draw_masks((20, 31), 2, 3)
    film = write_film(tmp_path / "film.dcm", masks)
    dataset = dcmread(film)
    del dataset.file_meta, dataset.preamble
    dataset.save_as(film, implicit_vr=True, little_endian=True, enforce_file_format=False)
    path = write_both(film, tmp_path)[0]
    assert np.array_equal(by_pydicom(path, 2), masks)


REFUSED = {
    "no study": ({"StudyInstanceUID": None}, "has no StudyInstanceUID, and .* export the film"),
    "no series": ({"SeriesInstanceUID": None}, "has no SeriesInstanceUID"),
    "no instance": ({"SOPInstanceUID": None}, "has no SOPInstanceUID"),
    "name for a study": ({"StudyInstanceUID": "head"}, "has the StudyInstanceUID 'head', which is"),
    "frames": ({"NumberOfFrames": 3}, "holds 3 frames, and DICOM objects are made of films of one"),
    "no size": ({"Rows": None}, "has no Rows and Columns"),
    "long patient": ({"PatientID": "x" * 70}, r"a PatientID that is not legal \(70 characters\)"),
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_film_that_cannot_be_referred_to_is_refused(kind, tmp_path):
    elements, sentence = REFUSED[kind]
    masks = draw_masks((20, 31), 2, 3)
    film = write_film(tmp_path / "film.dcm", masks, **elements)
    with pytest.raises(UserError, match=sentence) as refusal:
        write_segmentation(film, masks, NAMES[:2], tmp_path / "seg.dcm", algorithm=NET)
    assert "\n" not in str(refusal.value) and "film.dcm" in str(refusal.value)
    with pytest.raises(UserError, match=sentence):
        write_report(film, FINDINGS, RULE, tmp_path / "sr.dcm", algorithm=NET)
    assert list(tmp_path.iterdir()) == [film]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("missing", ["FrameOfReferenceUID", "ImagePositionPatient", "PixelSpacing"])
def test_ct_without_a_position_gets_a_report_alone(missing, tmp_path):
    masks = draw_masks((20, 31), 2, 3)
    film = write_film(tmp_path / "film.dcm", masks, **CT | {missing: None})
    sentence = r"film\.dcm lacks what a Segmentation takes from it \(Source images have no Frame"
    with pytest.raises(UserError, match=sentence):
        write_segmentation(film, masks, NAMES[:2], tmp_path / "seg.dcm", algorithm=NET)
    assert write_report(film, FINDINGS, RULE, tmp_path / "sr.dcm", algorithm=NET).exists()


def test_film_that_is_no_dicom_is_refused(tmp_path):
    film = tmp_path / "film.png"
    film.write_bytes(b"\x89PNG" + bytes(300))
    with pytest.raises(UserError, match=r"film\.png is not a DICOM file"):
        write_report(film, FINDINGS, RULE, tmp_path / "sr.dcm", algorithm=NET)


WRONG = {
    "size": ((2, 37, 24), NAMES[:2], "has 37 x 23 pixels, and its masks 37 x 24; predict masks at"),
    "turned": ((2, 23, 37), NAMES[:2], "has 37 x 23 pixels, and its masks 23 x 37"),
    "names": ((2, 37, 23), NAMES[:3], "there are 2 masks and 3 names of classes"),
    "none": ((0, 37, 23), [], "has 1 to 65535 classes, got 0"),
    "too many": ((1, 37, 23), [str(n) for n in range(65_536)], "1 to 65535 classes, got 65536"),
    "twice": ((2, 37, 23), ["mass", "mass"], "the class name 'mass' occurs twice"),
    "backslash": ((1, 37, 23), ["a\\b"], "cannot stand in a DICOM"),
    "long": ((1, 37, 23), ["x" * 65], "takes 1 to 64 printable characters"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_masks_and_names_that_do_not_fit_are_refused(kind, film, tmp_path):
    shape, names, sentence = WRONG[kind]
    with pytest.raises(UserError, match=sentence) as refusal:
        write_segmentation(film, np.zeros(shape, bool), names, tmp_path / "s.dcm", algorithm=NET)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("probability", [1.5, -0.1, float("nan")])
def test_no_probability_is_refused(probability, film, tmp_path):
    with pytest.raises(UserError, match=r"probability of 'mass' must be in \[0, 1\], got"):
        write_report(
            film,
            [ClassFinding("mass", probability, True)],
            RULE,
            tmp_path / "sr.dcm",
            algorithm=NET,
        )


def test_missing_highdicom_is_named_with_the_extra(film, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "highdicom"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UserError, match=r"needs the package highdicom; .* uv sync --extra deploy"):
        write_report(film, FINDINGS, RULE, tmp_path / "sr.dcm", algorithm=NET)
