"""Networks as scikit-learn estimators: for `Pipeline`, `GridSearchCV`, `cross_val_score` and all that takes one.

from xpnet.sklearn import XPClassifier

XPClassifier(hidden_layer_sizes=(128, 64), random_state=0).fit(X, y).predict_proba(X_new)
"""

try:
    import sklearn as _needed  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'xpnet.sklearn needs scikit-learn ({error}): pip install "xpnet[sklearn]"', name=error.name
    ) from None

from xpnet.sklearn.classifier import XPClassifier
from xpnet.sklearn.regressor import XPRegressor

__all__ = ["XPClassifier", "XPRegressor"]
