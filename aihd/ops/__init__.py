"""The edge towards operators: logs, the service manager, the health page, the process lock and files with secrets."""
