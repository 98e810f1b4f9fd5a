"""On Postgres the rows of the search's documents hold little, so that counting what is found reads few pages.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

APART = ("name_words", "short_words", "all_words")
INSIDE = ("environment_id", "name", "short", "marks")


def upgrade() -> None:
    """What is only read by its index lies beside the table."""
    if op.get_bind().dialect.name == "sqlite":
        return
    kinds = [f"ALTER {name} SET STORAGE EXTERNAL" for name in APART] + [
        f"ALTER {name} SET STORAGE MAIN" for name in INSIDE
    ]
    op.execute(f"ALTER TABLE search_documents {', '.join(kinds)}")
    op.execute("ALTER TABLE search_documents SET (toast_tuple_target = 128)")
    # Postgres moves something out of a row only where the row has more than two kilobytes; this, which it compresses to
    # nothing, lets every row have them. Adding it writes all rows anew.
    op.execute("ALTER TABLE search_documents ADD COLUMN room text GENERATED ALWAYS AS (repeat(' ', 2100)) STORED")


def downgrade() -> None:
    """As Postgres would have it."""
    if op.get_bind().dialect.name == "sqlite":
        return
    op.execute("ALTER TABLE search_documents DROP COLUMN room")
    op.execute("ALTER TABLE search_documents RESET (toast_tuple_target)")
    kinds = [f"ALTER {name} SET STORAGE EXTENDED" for name in (*APART, *INSIDE)]
    op.execute(f"ALTER TABLE search_documents {', '.join(kinds)}")
