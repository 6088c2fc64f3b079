"""Round trip of DICOM objects through a real archive: stored, found, read back."""

import subprocess

import numpy as np
import pytest
from pydicom import dcmread

from deployment.dicom_objects import ClassFinding, DicomAlgorithm, write_report, write_segmentation
from tests.factories.films import draw_masks, write_film
from tests.factories.optional import find_program, import_optional
from tests.factories.orthanc import TITLE, Orthanc, running_orthanc

NAMES = ["effusion", "nodule"]
MODEL = DicomAlgorithm("unetpp", "0.2.0", "9f86d081")
STORAGE = {"SEG": "1.2.840.10008.5.1.4.1.1.66.4", "SR": "1.2.840.10008.5.1.4.1.1.88.33"}


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    import_optional("highdicom")
    with running_orthanc(tmp_path_factory.mktemp("archive") / "orthanc") as running:
        yield running


def send(orthanc: Orthanc, *files) -> None:
    """Send files by C-STORE, as a workstation does."""
    storescu = find_program("storescu", "dcmtk")
    # -R proposes the classes of the files, because all that exist are too many for one association
    subprocess.run([storescu, "-R", "-aec", TITLE, *address(orthanc), *files], check=True)


def address(orthanc: Orthanc) -> list[str]:
    return ["127.0.0.1", str(orthanc.dicom)]


def find(orthanc: Orthanc, level: str, answers, **elements) -> list:
    """Return the answers to a C-FIND."""
    findscu = find_program("findscu", "dcmtk")
    keys = [f"{keyword}={value}" for keyword, value in elements.items()]
    words = [word for key in [f"QueryRetrieveLevel={level}", *keys] for word in ("-k", key)]
    answers.mkdir()
    subprocess.run(
        [findscu, "-S", "-X", "-od", answers, "-aec", TITLE, *words, *address(orthanc)],
        check=True,
    )
    return [dcmread(path, force=True) for path in sorted(answers.iterdir())]


def made(folder, number):
    """Write a film of a study of its own, its segmentation and report; return masks and files."""
    masks = draw_masks((61, 47), 2, seed=4)
    assert masks.any((1, 2)).all()
    film = write_film(folder / "film.dcm", masks, number, PhotometricInterpretation="MONOCHROME1")
    findings = [ClassFinding(NAMES[0], 0.875, True), ClassFinding(NAMES[1], 0.75, True)]
    return masks, [
        film,
        write_segmentation(film, masks, NAMES, folder / "seg.dcm", algorithm=MODEL),
        write_report(film, findings, "probability >= 0.42", folder / "sr.dcm", algorithm=MODEL),
    ]


def test_stored_found_and_read_back(orthanc, tmp_path):
    masks, files = made(tmp_path, 1)
    film, segmentation, report = map(dcmread, files)
    send(orthanc, *files)

    query = {"StudyInstanceUID": film.StudyInstanceUID}
    [study] = orthanc.post("/tools/find", {"Level": "Study", "Query": query})
    shared = orthanc.get(f"/studies/{study}")
    assert shared["PatientMainDicomTags"]["PatientID"] == film.PatientID
    assert len(shared["Series"]) == 3
    of_kind = {"Level": "Series", "Query": query | {"Modality": "SEG"}}
    [series] = orthanc.post("/tools/find", of_kind)
    [instance] = orthanc.get(f"/series/{series}")["Instances"]

    answers = find(
        orthanc,
        "IMAGE",
        tmp_path / "answers",
        StudyInstanceUID=film.StudyInstanceUID,
        SeriesInstanceUID="",
        SOPClassUID="",
        SOPInstanceUID="",
    )
    uids = {answer.SOPClassUID: answer.SOPInstanceUID for answer in answers}
    assert uids[STORAGE["SEG"]] == segmentation.SOPInstanceUID
    assert uids[STORAGE["SR"]] == report.SOPInstanceUID and len(answers) == 3

    returned = tmp_path / "returned.dcm"
    returned.write_bytes(orthanc.get(f"/instances/{instance}/file"))
    read = import_optional("highdicom.seg").segread(returned)
    pixels = read.get_pixels_by_source_instance([film.SOPInstanceUID])[0]
    assert np.array_equal(pixels.transpose(2, 0, 1).astype(bool), masks)
    assert [read.get_segment_description(n).segment_label for n in (1, 2)] == NAMES

    of_kind = {"Level": "Instance", "Query": query | {"Modality": "SR"}}
    [found] = orthanc.post("/tools/find", of_kind)
    tags = orthanc.get(f"/instances/{found}/simplified-tags")
    evidence = tags["CurrentRequestedProcedureEvidenceSequence"][0]["ReferencedSeriesSequence"][0]
    assert evidence["SeriesInstanceUID"] == film.SeriesInstanceUID
    named = evidence["ReferencedSOPSequence"][0]["ReferencedSOPInstanceUID"]
    assert named == film.SOPInstanceUID


def test_the_same_prediction_is_kept_once(orthanc, tmp_path):
    _, files = made(tmp_path, 2)
    status = [orthanc.post("/instances", path.read_bytes())["Status"] for path in files]
    again = tmp_path / "again"
    again.mkdir()
    _, repeated = made(again, 2)
    status += [orthanc.post("/instances", path.read_bytes())["Status"] for path in repeated]
    assert status == ["Success"] * 3 + ["AlreadyStored"] * 3
    query = {"StudyInstanceUID": dcmread(files[0]).StudyInstanceUID}
    assert len(orthanc.post("/tools/find", {"Level": "Instance", "Query": query})) == 3
