-- Whatever asks for unfinished tasks finds them by their state.
DROP INDEX tasks_unfinished;
