"""The catalog: takes the commands of users, and answers what images there are from tables projected from the log."""
