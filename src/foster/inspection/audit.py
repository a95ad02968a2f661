"""Folders of audits."""

from __future__ import annotations

from pathlib import Path

from foster.artefacts import folder_bytes
from foster.audit.audit import SHOWN, Audit
from foster.audit.folder import read_audit
from foster.errors import InputError
from foster.inspection.files import bytes_by_part
from foster.inspection.inspect import Look
from foster.inspection.page import Block, Cell, ItemText, Paragraph, Section, Share, Summary, Table
from foster.inspection.wording import clean, folder_name, plain, size


def look_at(folder: Path, look: Look) -> AuditFolder:
    """Open the folder of an audit.

    Raises:
        InputError: it is damaged, or shall be compared with a log.
    """
    return AuditFolder(folder, look)


class AuditFolder:
    """The folder of an audit.

    Args:
        folder: what ``foster audit`` wrote.
        look: nothing of it is used.

    Raises:
        InputError: it is damaged, or shall be compared with a log.
    """

    def __init__(self, folder: Path, look: Look) -> None:
        if look.data is not None:
            raise InputError("--data: is for distilled sequences and coresets; an audit has been compared with its log")
        self.folder: Path = folder
        self.found: Audit = read_audit(folder)

    def summary(self) -> Summary:
        """Return what was looked at, and the paragraph that says what was found."""
        about, found = self.found.about, self.found
        facts: list[tuple[str, str | ItemText]] = [
            ("method", clean(about["method"])),
            ("sequences", f"{about['sequences']:,}"),
            ("users", f"{about['users']:,}"),
            *(
                (name.replace("_", " "), plain(about[name]))
                for name in ("shadows", "shadow_steps", "shadow_student_steps", "seed")
            ),
            ("bytes", size(folder_bytes(self.folder))),
            ("data fingerprint", clean(about["data_fingerprint"])),
        ]
        return Summary(
            "audit",
            folder_name(self.folder),
            "What sequences reveal of the users of their log.",
            facts,
            bytes_by_part(self.folder),
            lines=[clean(found.paragraph(), 2000)],
            content={"bytes": folder_bytes(self.folder), **found.as_dict()},
        )

    def sections(self) -> list[Section]:
        """Return the pieces of histories, who could be told to be in the log, and what derives from what."""
        found = self.found
        blocks: list[Block] = [Paragraph(clean(found.paragraph(), 2000)), self._pieces()]
        if found.held_out is not None:
            rows = [
                (f"{r['n']:.0f}", Share(r["members"]), Share(r["others"])) for r in found.held_out if r["n"] in SHOWN
            ]
            caption = "Users whose history has a run of n items of the shadows' sequences"
            blocks.append(Table(caption, ("n", "members", "held-out users"), rows))
        sections = [Section("pieces", "Pieces of histories", blocks)]
        if found.membership is not None:
            sections.append(Section("membership", "Who is in the log", [self._membership()]))
        tables = [(clean(name), clean(what, 1000)) for name, what in found.tables.items()]
        derived = Table("Parts of the folder of sequences", ("part", "from"), tables, texts=(1,))
        return [*sections, Section("derived", "What derives from what", [derived])]

    def _pieces(self) -> Table:
        own, others = (
            self.found.pieces["sequences"],
            [self.found.pieces[name] for name in ("popularity", "transitions")],
        )
        rows: list[tuple[Cell, ...]] = [
            (
                str(row["n"]),
                *(Share(row[name]) for name in ("found", "one_user", "2_to_4_users", "5_or_more")),
                *(Share(other["runs"][place][name]) for other in others for name in ("found", "one_user")),
            )
            for place, row in enumerate(own["runs"])
            if row["n"] in SHOWN
        ]
        head = (
            "n", "in a history", "in one user's only", "2 to 4", "5 or more", "popularity: in a history",
            "one user's", "transitions: in a history", "one user's",
        )  # fmt: skip
        return Table("Runs of n consecutive items, and of draws that were copied from nobody", head, rows)

    def _membership(self) -> Table:
        rows: list[tuple[Cell, ...]] = [
            (
                clean(name),
                f"{row['auc']:.3f} ({row['auc_interval'][0]:.3f} to {row['auc_interval'][1]:.3f})",
                *(Share(row[f"tpr@{rate}"]) for rate in ("0.001", "0.01")),
            )
            for name, row in (self.found.membership or {}).items()
        ]
        head = ("what is attacked", "area under the curve", "true positives at 0.1 %", "at 1 % false positives")
        return Table("Likelihood-ratio attacks, with intervals of 95 %; 0.5 is a guess", head, rows)
