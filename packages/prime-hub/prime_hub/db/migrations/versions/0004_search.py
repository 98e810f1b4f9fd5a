"""The words that the search looks in; they are filled in by the Hub when it opens.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = ("name", "short", "readme", "marks")
SORTS = {
    "ix_environments_name": "normalized_name",
    "ix_environments_created": "created_at",
    "ix_environments_stars": "stars",
}


def upgrade() -> None:
    """A table of documents, and an index of their words in the database's own way."""
    op.create_table(
        "search_documents",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("environment_id", sa.String(length=32), sa.ForeignKey("environments.id"), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in COLUMNS[:-1]),
        sa.Column("marks", sa.String(length=2000), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("environment_id"),
        sqlite_autoincrement=True,
    )
    op.drop_table("environment_tags")  # tags are marks of documents now
    for index, column in SORTS.items():
        op.create_index(index, "environments", [column])
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgres()


def _sqlite() -> None:
    columns = ", ".join(COLUMNS)
    op.execute(
        f"CREATE VIRTUAL TABLE search_words USING fts5({columns}, content='search_documents', content_rowid='id', "
        "tokenize='ascii', detail=column, prefix='1 2 3')"
    )
    old = ", ".join(f"old.{name}" for name in COLUMNS)
    new = ", ".join(f"new.{name}" for name in COLUMNS)
    forget = f"INSERT INTO search_words(search_words, rowid, {columns}) VALUES ('delete', old.id, {old});"
    learn = f"INSERT INTO search_words(rowid, {columns}) VALUES (new.id, {new});"
    for moment, steps in (("INSERT", learn), ("DELETE", forget), ("UPDATE", forget + learn)):
        op.execute(
            f"CREATE TRIGGER search_documents_{moment.lower()} AFTER {moment} ON search_documents BEGIN {steps} END"
        )


def _postgres() -> None:
    # As they are: the parsers of Postgres would split the words again.
    def vector(*columns: str) -> str:
        words = " || ' ' || ".join(columns)
        marks = "string_to_array('=' || replace(marks, ' ', ' ='), ' ')"
        return f"array_to_tsvector(array_remove(string_to_array({words}, ' '), '') || {marks})"

    for name, columns in {
        "name_words": ("name",),
        "short_words": ("name", "short"),
        "all_words": ("name", "short", "readme"),
    }.items():
        op.execute(
            f"ALTER TABLE search_documents ADD COLUMN {name} tsvector GENERATED ALWAYS AS ({vector(*columns)}) STORED"
        )
        op.execute(f"CREATE INDEX ix_search_documents_{name} ON search_documents USING gin ({name})")


def downgrade() -> None:
    """Without the search's own."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE search_words")
    op.drop_table("search_documents")
    for index in SORTS:
        op.drop_index(index, "environments")
    tags = op.create_table(
        "environment_tags",
        sa.Column("environment_id", sa.String(length=32), sa.ForeignKey("environments.id"), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("environment_id", "tag"),
    )
    op.create_index("ix_environment_tags_tag", "environment_tags", ["tag"])
    environments = sa.table("environments", sa.column("id", sa.String()), sa.column("tags", sa.JSON()))
    for one, some in op.get_bind().execute(sa.select(environments.c.id, environments.c.tags)).all():
        for tag in dict.fromkeys(some or []):
            op.execute(tags.insert().values(environment_id=one, tag=tag))
