"""`hdsweep tune`: an Optuna search whose trials are runs of the same sweep as the table's.

`search` says what is searched and how, and turns a trial into runs, rung by rung; `ledger` is Optuna's
storage, `driver` hands the runs to Ray Tune and the results to the ledger, `record` nests them in
MLflow, `answer` and `pages` say what came out. The verb itself is `verbs.tune`.
"""
