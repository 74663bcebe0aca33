from models.worker.admission import WINDOW, Admission

MS = 1_000_000


def test_a_few_late_ticks_are_chance_and_more_are_a_load() -> None:
    admission = Admission(limit=70 * MS)
    for _ in range(WINDOW):
        admission.record(69 * MS)
    assert not admission.overloaded
    for _ in range(3):
        admission.record(200 * MS)
    assert not admission.overloaded
    admission.record(71 * MS)
    assert admission.overloaded


def test_it_is_forgotten_after_a_window_of_good_ticks() -> None:
    admission = Admission(limit=70 * MS)
    for _ in range(10):
        admission.record(90 * MS)
    assert admission.overloaded
    for _ in range(WINDOW - 4):
        admission.record(1 * MS)
    assert admission.overloaded
    admission.record(1 * MS)
    assert not admission.overloaded
