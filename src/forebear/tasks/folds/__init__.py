"""Cross-validation: one run per fold, and predictions of each image by a network that is new to it.

OUT/
├── folds.json       settings and results, of each fold and of all of them
├── fold-1/ ...      the run of each fold
├── out_of_fold.csv  one row per image: label, fold, prediction, and all probabilities
└── index.html       the results on one page
"""
