"""What people's videos, tables and runs do, case by case; `tests.cases.cases` says how a case is written."""
