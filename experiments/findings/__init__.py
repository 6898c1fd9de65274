"""What a sweep says: cells with intervals, effects, count models beside them, tables and figures."""
