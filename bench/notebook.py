"""What people write in a notebook instead: features by Keras, a dense head, LinearSVC, scores.

Usage: python bench/notebook.py PHOTOS

PHOTOS is a folder with one sub-folder per class. The weights are random, which takes no longer.
"""

import sys

import keras
import numpy as np
from sklearn.metrics import classification_report, confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC


def main() -> None:
    """Run the cells from top to bottom."""
    images = keras.utils.image_dataset_from_directory(
        sys.argv[1], image_size=(224, 224), batch_size=32, shuffle=False, verbose=False
    )
    labels = np.concatenate([label for _, label in images])
    n_classes = len(images.class_names)
    scaled = images.map(lambda x, y: (keras.applications.mobilenet_v2.preprocess_input(x), y))
    backbone = keras.applications.MobileNetV2(weights=None, include_top=False, pooling="avg")
    features = backbone.predict(scaled, verbose=0)

    x, x_test, y, y_test = train_test_split(features, labels, test_size=0.2, random_state=0)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.25, random_state=0)
    head = keras.Sequential(
        [
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(n_classes, activation="softmax"),
        ]
    )
    head.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    stop = keras.callbacks.EarlyStopping(patience=8, restore_best_weights=True)
    head.fit(
        x_train, y_train, validation_data=(x_val, y_val), epochs=50, callbacks=[stop], verbose=0
    )
    svc = make_pipeline(StandardScaler(), LinearSVC())
    svc.fit(x_train, y_train)
    for called in (head.predict(x_test, verbose=0).argmax(axis=1), svc.predict(x_test)):
        print(classification_report(y_test, called, zero_division=0))
        print(confusion_matrix(y_test, called))


if __name__ == "__main__":
    main()
