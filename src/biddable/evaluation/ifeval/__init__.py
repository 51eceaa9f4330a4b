"""Judge responses to IFEval's prompts as its official program does (arXiv 2311.07911).

``instructions`` holds the 25 kinds, ``linguistics`` the packages some of them read text with,
``judging`` the strict and the loose verdict, ``scoring`` the four accuracies. Where the program's
ways are odd they are followed; docs/ifeval.md names them.
"""
