{{- /* Names and labels of all resources. */ -}}
{{- define "custodes.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "custodes.selector" -}}
app.kubernetes.io/name: custodes
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "custodes.labels" -}}
{{ include "custodes.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "custodes.metadata" -}}
name: {{ include "custodes.name" . }}
labels:
  {{- include "custodes.labels" . | nindent 2 }}
{{- end -}}

{{- /* Port from http.listen in custodes.yaml. */ -}}
{{- define "custodes.port" -}}
{{- regexFind "[0-9]+$" .Values.config.http.listen -}}
{{- end -}}
