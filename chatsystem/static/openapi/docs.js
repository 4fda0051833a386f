"use strict";

const page = document.getElementById("docs");

SwaggerUIBundle({
  domNode: page,
  url: page.dataset.description,
  // Its default asks another host for a badge.
  validatorUrl: null,
  deepLinking: true,
  displayRequestDuration: true,
  // Closed, the schemas below the routes: each route shows its own.
  defaultModelsExpandDepth: 0,
});
