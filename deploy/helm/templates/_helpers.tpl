{{- define "chatsystem.selector" -}}
app.kubernetes.io/name: chatsystem
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "chatsystem.labels" -}}
{{ include "chatsystem.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "chatsystem.name" -}}
{{ .root.Release.Name }}-{{ .component }}
{{- end }}

{{/* A pod's specification without its container's command, probes and resources. */}}
{{- define "chatsystem.pod" -}}
automountServiceAccountToken: false
# Otherwise Kubernetes sets a variable for each port of each service.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
{{- end }}

{{- define "chatsystem.container" -}}
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
envFrom:
  - secretRef: {name: {{ .Values.secret }}}
env:
  - name: POD_IP
    valueFrom: {fieldRef: {fieldPath: status.podIP}}
  - name: ALLOWED_HOSTS
    value: {{ printf "%s,$(POD_IP)" .Values.allowedHosts | quote }}
{{- range $name, $value := .Values.settings }}
  - name: {{ $name }}
    value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "chatsystem.celery" -}}
celery, --quiet, --app, chatsystem.celery
{{- end }}

{{- define "chatsystem.lonely" -}}
--pool, prefork, --without-gossip, --without-mingle, --without-heartbeat
{{- end }}

{{/* A worker that lost its broker reconnects by itself. So only one that is silent for five minutes is restarted. */}}
{{- define "chatsystem.ping" -}}
livenessProbe:
  exec:
    command: [sh, -c, 'celery --app chatsystem.celery inspect ping --destination "celery@$HOSTNAME" --timeout 10']
  initialDelaySeconds: 60
  periodSeconds: 60
  timeoutSeconds: 30
  failureThreshold: 5
{{- end }}
