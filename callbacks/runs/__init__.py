"""Everything around a run: the runs it names, its folder, its plan, and error messages."""
