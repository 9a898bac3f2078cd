// The maps by name, how each is made, and how much each shows.
"use strict";

const MAPS = [["tsne", "t-SNE"], ["pca", "PCA"], ["centroids", "task centroids"]];
const mapName = (map = look.map) => new Map(MAPS).get(map);

const percent = (share) => (share === null ? "–" : `${Math.round(100 * share)} %`);

/** Return how much of the variance a plane shows, in words. */
function sharesShown() {
  const { shown_variance, shown_between } = theSplit();
  const share = `The map shows ${percent(shown_variance[look.map][look.state][look.step])} of the variance`;
  return look.map === "pca" ? `${share}.` : `${share} and ${percent(shown_between[look.state][look.step])} of the variance between tasks.`;
}

/** Return how the shown map is made, and what it does not show. */
function mapNote() {
  const fitted = look.fit ? " Each checkpoint is scaled to fit the frame." : "";
  return { tsne: tsneNote, pca: pcaNote, centroids: centroidsNote }[look.map]() + (look.map === "tsne" || isSingle() ? "" : fitted);
}

const isSingle = () => theRun().step_names !== null;

const whyNoGroups = " With an ARI near 1 it may still have no groups of tasks, or groups without gaps: KMeans counts all directions of a state, and t-SNE its nearest neighbours only, which may share the input instead of the task. The map of the task centroids shows the directions between tasks.";

const tsneNote = () => isSingle()
  ? "This is dynamic t-SNE (Rauber, Falcão and Telea 2016): the map of each model starts from the map of the model before, the untrained twin first, and each hidden state of the first from the one below it. Only the neighbours of a point have a meaning. Distances and sizes of clusters have none." + whyNoGroups
  : "This is dynamic t-SNE (Rauber, Falcão and Telea 2016): the map of each checkpoint starts from the map of the checkpoint before, and a spring holds each point near its former coordinates. At the first checkpoint, each hidden state starts from the one below it. Only the neighbours of a point have a meaning. Distances, sizes of clusters and paths of points have none." + whyNoGroups;

const pcaNote = () => isSingle()
  ? "The map has the first two principal components of the hidden state of the last model, for all models. The mean of each is subtracted. Variance in other directions is not shown."
  : "The map has the first two principal components of the hidden state at the last checkpoint, for all checkpoints. The mean of each checkpoint is subtracted. The coordinates of different checkpoints can be compared. Variance in other directions is not shown.";

function centroidsNote() {
  const { splits } = theRun(), n = splits[0].followed[look.state].tasks.length, last = isSingle() ? "of the last model" : "at the last checkpoint";
  return `The map is a plane through the centroids of the ${number(n)} tasks ${last}: the first two principal components of these ${number(n)} mean states. ` +
    (n === 2 ? "Two centroids differ in one direction, which is horizontal; the vertical one has the largest remaining variance. "
      : n > 3 ? `The centroids differ in up to ${number(n - 1)} directions, and the others are not shown. ` : "") +
    (splits.length > 1 ? `The centroids are those of ${splits[0].name}: all splits are shown in the same plane, also points that it was not fitted on. `
      : "The centroids are those of the points that are shown. Random differences of the tasks are part of them, so that a few points lie further apart than new ones would. ") +
    `The plane is the same for all ${isSingle() ? "models" : "checkpoints"}, and its middle is the mean of their centroids.`;
}
