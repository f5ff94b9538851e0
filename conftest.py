pytest_plugins = ["harness.doors.plugin"]
